"""Plan small changes to the chosen plan and say in a sentence what each costs or brings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.forecast.turn import Forecast
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.placement.arrange import Arrangement, arrange
from launcher.plan.placement.pace import forecast_placement
from launcher.plan.placement.settle import settle
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.choice import Change
from launcher.plan.workload import Workload
from launcher.units import format_bytes

_CONTEXT_STEP = 32768
_LEAST_MOVED = 1 << 20  # bytes of weights


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
    """Say what devices gain or lose: whole devices, or weights in bytes."""
    old, new = before.placement, after.placement
    net = _on_devices(after) - _on_devices(before)
    fewer = len(old.devices) - len(new.devices)
    if abs(net) < _LEAST_MOVED:
        return f"{'frees' if fewer > 0 else 'takes'} {abs(fewer)} device{'s' * (abs(fewer) != 1)}" * bool(
            fewer
        )
    where = "GPUs" if len({*old.devices, *new.devices}) > 1 else "the GPU"
    return f"moves {format_bytes(abs(net))} of weights {'from RAM to' if net > 0 else 'to RAM from'} {where}"


def _on_devices(arrangement: Arrangement) -> int:
    return sum(row.weights.n_bytes for row in arrangement.ledger if row.where != HOST)


def _kv(arrangement: Arrangement) -> int:
    return sum(row.kv.n_bytes for row in arrangement.ledger)
