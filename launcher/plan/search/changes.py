"""Plan small changes to the chosen plan and say in a sentence what each costs or brings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from launcher.errors import UsageError
from launcher.plan.forecast.turn import Forecast
from launcher.plan.memory.ledger import spread_out
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.placement.arrange import Arrangement, arrange
from launcher.plan.placement.pace import forecast_placement
from launcher.plan.placement.settle import settle
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.choice import Change
from launcher.plan.workload import Workload
from launcher.units import format_bytes

_CONTEXT_STEP = 32768
_LEAST_LAYERS = 0.05  # fewer expert layers than this round to 0.0


def evaluate_changes(chosen: PlanCandidate) -> tuple[Change, ...]:
    changes = []
    for name, flags, changed, size in _changes(chosen):
        try:
            settled = settle(chosen.case.architecture, changed, size)
        except UsageError:
            continue  # llama-server would refuse it
        arrangement = arrange(chosen.case, settled, changed)
        changes.append(_evaluate(chosen, arrangement, name, flags))
    return tuple(changes)


def _changes(chosen: PlanCandidate) -> Iterator[tuple[str, str, Workload, int]]:
    """Yield (name, flags, changed workload, context)."""
    parameters = chosen.arrangement.settled.parameters
    workload = chosen.workload
    ctx = parameters.ctx_size
    trained = chosen.case.architecture.n_ctx_train
    if ctx + _CONTEXT_STEP <= trained:
        yield "+32k context", f"-c {ctx + _CONTEXT_STEP}", workload, ctx + _CONTEXT_STEP
    if ctx >= 2 * 4096:
        yield "half the context", f"-c {ctx // 2}", workload, ctx // 2
    other = CacheType.Q8_0 if parameters.cache_type_k is CacheType.F16 else CacheType.F16
    if workload.flash_attn is not FlashAttention.OFF:
        changed = replace(workload, cache_type_k=other, cache_type_v=other)
        yield f"a KV cache of {other}", f"-ctk {other} -ctv {other}", changed, ctx
    for ubatch in (512, 2048):
        if ubatch != parameters.ubatch_size and chosen.case.budgets.devices:
            changed = replace(workload, ubatch_size=ubatch, batch_size=max(parameters.batch_size, ubatch))
            yield f"ubatch {ubatch}", f"-ub {ubatch}", changed, ctx


def _evaluate(chosen: PlanCandidate, changed: Arrangement, name: str, flags: str) -> Change:
    if not changed.fits:
        worst = min(changed.ledger, key=lambda row: row.free_bytes)
        text = f"{name} does not fit: {worst.where} would be {format_bytes(-worst.free_bytes)} short"
        return Change(flags=flags, fits=False, text=text, decode_tps=None, turn_seconds=None)
    after, before = _forecasts_of_one_turn(chosen, changed)
    kv = _kv(changed) - _kv(chosen.arrangement)
    tokens = _instead(f"{after.decode.mid:.1f}", f"{before.decode.mid:.1f}")
    turn = _instead(f"{after.turn_seconds.mid:.0f}", f"{before.turn_seconds.mid:.0f}")
    speed = f"{tokens} tokens/s, a turn {turn} s"
    if after.turn != chosen.forecast.turn:  # neither number is one of the forecast above
        speed += f", both for a turn that it can hold, {after.turn}"
    what = _moved(chosen.arrangement, changed)
    if not what and kv:
        what = f"{'frees' if kv < 0 else 'takes'} {format_bytes(abs(kv))} of cache"
    what = what or "changes nothing that shows"
    return Change(
        flags=flags,
        fits=True,
        text=f"{name} {what}: {speed}",
        decode_tps=after.decode.mid,
        turn_seconds=after.turn_seconds.mid,
    )


def _forecasts_of_one_turn(chosen: PlanCandidate, changed: Arrangement) -> tuple[Forecast, Forecast]:
    """Predict the change and the plan for the plan's turn, cut to what the changed context holds."""
    turn = chosen.forecast.turn.within(changed.settled.parameters.ctx_size)
    machine, own = chosen.case.machine, chosen.arrangement
    after = forecast_placement(changed.demand, changed.placement, machine, changed.cores.processor, turn)
    if turn == chosen.forecast.turn:
        return after, chosen.forecast
    return after, forecast_placement(own.demand, own.placement, machine, own.cores.processor, turn)


def _instead(now: str, before: str) -> str:
    return f"still {now}" if now == before else f"{now} instead of {before}"


def _moved(before: Arrangement, after: Arrangement) -> str:
    """Say what devices gain or lose: whole layers, devices, or layers of experts (in fractions)."""
    old, new = before.placement, after.placement
    count = new.n_gpu_layers - old.n_gpu_layers
    if count:
        return f"{_verb(count)} {abs(count)} whole layer{'s' * (abs(count) != 1)} on devices"
    if old.devices != new.devices and not (old.host_expert_blocks or new.host_expert_blocks):
        fewer = len(old.devices) - len(new.devices)
        if not fewer:
            return ""
        return f"{'frees' if fewer > 0 else 'takes'} {abs(fewer)} device{'s' * (abs(fewer) != 1)}"
    old_layers, new_layers = _expert_layers(before), _expert_layers(after)
    gained = {
        device: new_layers.get(device, 0.0) - old_layers.get(device, 0.0)
        for device in {**old_layers, **new_layers}
    }
    net = sum(gained.values())
    if abs(net) < _LEAST_LAYERS:
        return ""
    shown = [device for device, layers in gained.items() if layers * net > 0 and abs(layers) >= _LEAST_LAYERS]
    count_text = f"{abs(net):.1f}".removesuffix(".0")
    return f"{_verb(net)} {count_text} expert layer{'s' * (count_text != '1')} on {', '.join(shown)}"


def _verb(gain: float) -> str:
    return "brings" if gain > 0 else "costs"


def _expert_layers(arrangement: Arrangement) -> dict[str, float]:
    """Count the layers of experts on each device; a part of a layer counts by its bytes."""
    placement, weights = arrangement.placement, arrangement.demand.weights
    spread = spread_out(placement)
    parts = dict(placement.host_expert_parts)
    layers = {}
    for device, share in zip(placement.devices, spread.shares, strict=True):
        layers[device] = 0.0
        for block in set(share) & set(weights.expert_blocks) - set(spread.host_experts):
            kinds = weights.layers[block].expert_kinds
            here = sum(n_bytes for kind, n_bytes in kinds if kind not in parts.get(block, ()))
            layers[device] += here / weights.layers[block].expert_bytes
    return layers


def _kv(arrangement: Arrangement) -> int:
    return sum(row.kv.n_bytes for row in arrangement.ledger)
