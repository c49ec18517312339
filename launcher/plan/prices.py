"""What a change to the chosen plan costs: planned through, compared, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from launcher.errors import UsageError
from launcher.plan.arrange import Arrangement, arrange
from launcher.plan.candidates import Candidate
from launcher.plan.choice import Price
from launcher.plan.ledger import spread_out
from launcher.plan.pace import forecast
from launcher.plan.plan import CacheType, Placement, Workload
from launcher.plan.settle import settle
from launcher.units import format_bytes

_STEP = 32768


def price_changes(chosen: Candidate) -> tuple[Price, ...]:
    """More context, less of it, a smaller or larger cache type, more slots, another ubatch."""
    prices = []
    for name, flags, changed, size in _changes(chosen):
        try:
            settled = settle(chosen.case.architecture, changed, size)
        except UsageError:
            continue
        arrangement = arrange(chosen.case, settled, changed)
        prices.append(_price(chosen, arrangement, name, flags))
    return tuple(price for price in prices if price is not None)


def _changes(chosen: Candidate) -> Iterator[tuple[str, str, Workload, int]]:
    parameters = chosen.arrangement.settled.parameters
    workload = chosen.workload
    ctx = parameters.ctx_size
    trained = chosen.case.architecture.n_ctx_train
    if ctx + _STEP <= trained:
        yield "+32k context", f"-c {ctx + _STEP}", workload, ctx + _STEP
    if ctx >= 2 * 4096:
        yield "half the context", f"-c {ctx // 2}", workload, ctx // 2
    other = CacheType.Q8_0 if parameters.cache_type_k is CacheType.F16 else CacheType.F16
    if workload.flash_attn is not False:
        changed = replace(workload, cache_type_k=other, cache_type_v=other)
        yield f"a KV cache of {other}", f"-ctk {other} -ctv {other}", changed, ctx
    for ubatch in (512, 2048):
        if ubatch != parameters.ubatch_size and chosen.case.budgets.devices:
            changed = replace(workload, ubatch_size=ubatch, batch_size=max(parameters.batch_size, ubatch))
            yield f"ubatch {ubatch}", f"-ub {ubatch}", changed, ctx


def _price(chosen: Candidate, changed: Arrangement, name: str, flags: str) -> Price | None:
    if not changed.fits:
        worst = min(changed.ledger, key=lambda row: row.free_bytes)
        text = f"{name} does not fit: {worst.where} would be {format_bytes(-worst.free_bytes)} short"
        return Price(flags=flags, fits=False, text=text, decode_tps=None, turn_seconds=None)
    predicted = forecast(changed.demand, changed.placement, chosen.case.machine)
    moved = _moved(chosen.arrangement.placement, changed.placement)
    kv = _kv(changed) - _kv(chosen.arrangement)
    before, after = chosen.forecast, predicted
    speed = (
        f"{after.decode.mid:.1f} instead of {before.decode.mid:.1f} tokens/s, "
        f"a turn {after.turn_seconds.mid:.0f} instead of {before.turn_seconds.mid:.0f} s"
    )
    what = "changes nothing that shows"
    if moved:
        better = _better(chosen.arrangement.placement, changed.placement)
        what = f"{'brings' if better else 'costs'} {' and '.join(moved)}"
    elif kv:
        what = f"{'frees' if kv < 0 else 'takes'} {format_bytes(abs(kv))} of cache"
    return Price(
        flags=flags,
        fits=True,
        text=f"{name} {what}: {speed}",
        decode_tps=after.decode.mid,
        turn_seconds=after.turn_seconds.mid,
    )


def _moved(before: Placement, after: Placement) -> list[str]:
    """Expert layers (or whole ones) that a device gains or loses."""
    if before.n_gpu_layers != after.n_gpu_layers:
        count = abs(after.n_gpu_layers - before.n_gpu_layers)
        return [f"{count} whole layer{'s' * (count != 1)} on devices"]
    if before.devices != after.devices and not (before.host_expert_blocks or after.host_expert_blocks):
        return [f"{abs(len(after.devices) - len(before.devices))} of {len(before.devices)} devices"]
    had, has = _experts(before), _experts(after)
    out = []
    for device in dict.fromkeys((*before.devices, *after.devices)):
        count = abs(has.get(device, 0) - had.get(device, 0))
        if count:
            out.append(f"{count} expert layer{'s' * (count != 1)} on {device}")
    return out


def _experts(placement: Placement) -> dict[str, int]:
    spread = spread_out(placement)
    return {
        device: sum(1 for layer in share if layer < placement.n_block and layer not in spread.host_experts)
        for device, share in zip(placement.devices, spread.shares, strict=True)
    }


def _better(before: Placement, after: Placement) -> bool:
    return (after.n_gpu_layers, -len(after.host_expert_blocks), -len(after.devices)) > (
        before.n_gpu_layers,
        -len(before.host_expert_blocks),
        -len(before.devices),
    )


def _kv(arrangement: Arrangement) -> int:
    return sum(row.kv.n_bytes for row in arrangement.ledger)
