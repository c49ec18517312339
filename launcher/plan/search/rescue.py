"""Plan again, with what was observed, after a plan that should fit ran out of memory. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.placement.settle import USUAL_UBATCH
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Workload
from launcher.units import MIB, format_bytes

MOST_STEPS = 3
_LEAST_UBATCH = 64
_LEAST_CTX = 4096
# A row is planned at least 32 MiB or 2 % below what did not fit: allocators round and fragment.
_SLACK_BYTES = 32 * MIB
_SLACK_SHARE = 50
# If the log does not say how much was requested, a tenth less than planned.
_UNKNOWN_SHARE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhaustedRow:
    """A ledger row that ran out of memory."""

    where: str | None  # None: the log does not say
    need_bytes: int | None = None  # the request that failed
    had_bytes: int | None = None  # what the row had taken before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the planner is asked for beyond the user's request. Kept in the history."""

    less: tuple[tuple[str, int], ...] = ()  # (row, bytes fewer to plan with)
    ubatch_size: int | None = None
    cache_type: CacheType | None = None
    ctx_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    correction: Correction
    plan: Plan
    sentence: str  # what is different
    needs_consent: bool = False  # it takes away something that the user asked for


Replan = Callable[[Machine, Workload], Plan | Shortfall]


def find_rescues(
    failed: Plan,
    exhausted: ExhaustedRow,
    machine: Machine,
    workload: Workload,
    before: Correction,
    replan: Replan,
) -> Iterator[Rescue]:
    """Yield what can be tried next, cheapest first; nothing if no plan needs less than what failed.

    `machine` and `workload` are the uncorrected ones, `before` is the correction that `failed` was made with.
    """
    row = exhausted_row(failed, exhausted.where)
    if row is None:
        return
    base = _with_less_at(row, exhausted, before)
    slower: list[Rescue] = []
    for correction in _corrections(failed, workload, base):
        if correction.ctx_size != base.ctx_size and slower:
            yield from slower  # before the context is shortened
            slower = []
        outcome = replan(
            with_less_free(machine, dict(correction.less)), with_correction(workload, correction)
        )
        if not isinstance(outcome, Plan) or _is_same_command(outcome, failed):
            continue
        if correction.ubatch_size != base.ubatch_size and outcome.placement != failed.placement:
            continue  # a smaller micro-batch alone is not enough; moving experts alone is cheaper
        rescue = Rescue(
            correction=correction,
            plan=outcome,
            sentence=describe_difference(failed, outcome),
            needs_consent=correction.ctx_size != base.ctx_size,
        )
        if outcome.placement.n_gpu_layers < failed.placement.n_gpu_layers and not rescue.needs_consent:
            slower.append(rescue)  # whole layers on the CPU cost more speed than a quantised KV cache
        else:
            yield rescue
    yield from slower


def exhausted_row(plan: Plan, where: str | None) -> LedgerRow | None:
    """Return the row of a device or the host; if `where` is None, of the fullest device."""
    if where is not None:
        return next((row for row in plan.ledger if row.where == where), None)
    used = [row for row in plan.ledger if row.where in plan.placement.devices]
    return min(used, key=lambda row: row.free_bytes, default=plan.ledger[-1] if plan.ledger else None)


def with_less_free(machine: Machine, less: Mapping[str, int]) -> Machine:
    """Return the machine with so many bytes fewer free on each of these rows."""
    devices = tuple(
        replace(device, free_bytes=max(0, _free(device.free_bytes, device.total_bytes) - less[device.id]))
        if device.id in less
        else device
        for device in machine.devices
    )
    available = max(0, machine.ram_available_bytes - less.get(HOST, 0))
    whole = machine.host_available_bytes
    return replace(
        machine,
        devices=devices,
        ram_available_bytes=available,
        host_available_bytes=None if whole is None else max(0, whole - less.get(HOST, 0)),
    )


def with_correction(workload: Workload, correction: Correction) -> Workload:
    ubatch = correction.ubatch_size
    return replace(
        workload,
        ubatch_size=workload.ubatch_size
        if ubatch is None
        else min(workload.ubatch_size or USUAL_UBATCH, ubatch),
        cache_type_k=workload.cache_type_k or correction.cache_type,
        cache_type_v=workload.cache_type_v or correction.cache_type,
        ctx_size=correction.ctx_size or workload.ctx_size,
    )


def describe_difference(before: Plan, after: Plan) -> str:
    differences = []
    if after.ubatch_size != before.ubatch_size:
        differences.append(f"micro-batch {after.ubatch_size} instead of {before.ubatch_size}")
    moved = len(after.placement.host_expert_blocks) - len(before.placement.host_expert_blocks)
    if moved:
        differences.append(
            f"the experts of {abs(moved)} {'more' if moved > 0 else 'fewer'} layers on the host"
        )
    if after.placement.devices != before.placement.devices and after.placement.devices:
        differences.append(
            f"on {' and '.join(after.placement.devices)} instead of {' and '.join(before.placement.devices)}"
        )
    layers = before.placement.n_gpu_layers - after.placement.n_gpu_layers
    if layers:
        differences.append(
            f"{after.placement.n_gpu_layers} layers on devices instead of {before.placement.n_gpu_layers}"
        )
    elif after.placement.tensor_split != before.placement.tensor_split:
        split = ",".join(str(count) for count in after.placement.tensor_split)
        differences.append(f"layers split {split}")
    if after.cache_type_k != before.cache_type_k or after.cache_type_v != before.cache_type_v:
        differences.append(f"KV cache {_cache_of(after)} instead of {_cache_of(before)}")
    if after.ctx_size != before.ctx_size:
        differences.append(f"context {after.ctx_size} instead of {before.ctx_size}")
    if after.cache_ram_bytes != before.cache_ram_bytes:
        old, new = format_bytes(before.cache_ram_bytes), format_bytes(after.cache_ram_bytes)
        differences.append(f"prompt cache {new} instead of {old}")
    return ", ".join(differences) or "the same settings on less memory"


def _cache_of(plan: Plan) -> str:
    return plan.cache_type_k if plan.cache_type_k is plan.cache_type_v else plan.cache_types


def _with_less_at(row: LedgerRow, exhausted: ExhaustedRow, before: Correction) -> Correction:
    less = dict(before.less)
    less[row.where] = less.get(row.where, 0) + _excess(row, exhausted)
    return replace(before, less=tuple(sorted(less.items())))


def _excess(row: LedgerRow, exhausted: ExhaustedRow) -> int:
    """Return how many bytes to take off the row's budget."""
    if exhausted.need_bytes is None:
        ceiling = row.used_bytes - row.used_bytes // _UNKNOWN_SHARE
    else:
        failed_at = exhausted.need_bytes + (exhausted.had_bytes or 0)
        failed_at += row.overhead.n_bytes + row.overhead.band_bytes  # in the ledger, not among the buffers
        ceiling = min(row.used_bytes, failed_at)
        ceiling -= max(_SLACK_BYTES, ceiling // _SLACK_SHARE)
    return max(0, row.budget_bytes - max(0, ceiling))


def _corrections(failed: Plan, workload: Workload, base: Correction) -> Iterator[Correction]:
    # In the order of what they cost the user: a smaller micro-batch (slower prompts), experts moved to the
    # host (slower tokens), a quantised KV cache (a little quality), and last, with consent only, a shorter
    # context.
    if failed.ubatch_size > _LEAST_UBATCH:
        yield replace(base, ubatch_size=max(_LEAST_UBATCH, failed.ubatch_size // 2))
    yield base
    quantised = None
    if (
        workload.cache_type_k is None
        and workload.cache_type_v is None
        and failed.flash_attn is not FlashAttention.OFF
    ):
        quantised = CacheType.Q8_0
        yield replace(base, cache_type=quantised)
    ctx = failed.ctx_size // 2
    while ctx >= _LEAST_CTX:
        yield replace(base, cache_type=base.cache_type or quantised, ctx_size=ctx)
        ctx //= 2


def _is_same_command(plan: Plan, other: Plan) -> bool:
    return replace(plan, ledger=(), reasons=()) == replace(other, ledger=(), reasons=())


def _free(free: int | None, total: int) -> int:
    return total if free is None else free
