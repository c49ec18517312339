"""Describe the planner's choices in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from launcher.gguf.header import Value
from launcher.machine.machine import Machine, format_device_ids
from launcher.machine.shared_memory import Charge, charge_of, host_available, is_contained
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.memory.budget import Budgets, DeviceBudget, free_bytes
from launcher.plan.memory.companion_memory import CompanionMemory
from launcher.plan.memory.ledger import Demand, host_experts, spread_out
from launcher.plan.memory.weights import OverriddenWeights
from launcher.plan.modes import Pooling
from launcher.plan.oracle import HostTensor
from launcher.plan.parameters import ContextParameters
from launcher.plan.plan import LeftOut, Placement
from launcher.units import format_bytes

_NAMED = 3


def describe_placement(
    demand: Demand, placement: Placement, budgets: Budgets, left_out: LeftOut | None = None
) -> tuple[str, ...]:
    weights = demand.weights
    reasons = ["everything on the host"]
    if placement.devices or left_out is None:
        reasons = [_where(demand, placement, budgets)]
    if len(placement.devices) > 1:
        split = zip(placement.devices, placement.tensor_split, strict=True)
        counts = ", ".join(_count_on(list(same), count) for count, same in groupby(split, key=lambda s: s[1]))
        reasons.append(f"layers by bytes, each device to its own budget: {counts}")
    idle = _idle(placement, budgets, left_out)
    if left_out is not None:
        reasons.append(_left_out(left_out, budgets))
    passed_over = _passed_over(idle, budgets) if left_out is None and not placement.overrides else []
    if passed_over and placement.devices and not _all_on_devices(placement):
        are, them = ("is", "it") if len(passed_over) == 1 else ("are", "them")
        reasons.append(
            f"{format_device_ids(passed_over)} {are} left out: "
            f"no less of the model is on devices without {them}"
        )
    if idle and _all_on_devices(placement):
        are = "is" if len(idle) == 1 else "are"
        others_hold = "other holds" if len(placement.devices) == 1 else "others hold"
        reasons.append(
            f"{format_device_ids(idle)} {are} not needed: the {others_hold} everything, and one request is "
            "computed by one device after the other, so more would not make it faster"
        )
    if weights.stuck_bytes and placement.devices:
        reasons.append(
            f"{format_bytes(weights.stuck_bytes)} of weights are of a type no device here can multiply: "
            "they stay on the host"
        )
    if placement.paged_bytes:
        of_all = host_experts(weights, spread_out(placement))
        reasons.append(describe_paged(placement.paged_bytes, of_all))
    reasons += [_overridden(sent) for sent in weights.overridden]
    return tuple(reasons)


def describe_paged(missing_bytes: int, of_all: int) -> str:
    return (
        f"RAM has no room for {format_bytes(missing_bytes)} of the {format_bytes(of_all)} of experts on the "
        "host: they are read from the file as they are used"
    )


def _count_on(same: Sequence[tuple[str, int]], count: int) -> str:
    each = " each" if len(same) > 1 else ""
    return f"{count} on {format_device_ids(name for name, _ in same)}{each}"


def _joined(devices: Sequence[str]) -> str:
    return " and ".join(devices) if len(devices) < 3 else format_device_ids(devices)


def _idle(placement: Placement, budgets: Budgets, left_out: LeftOut | None) -> list[str]:
    """Return the devices that are neither used nor left out for want of RAM."""
    named = {*placement.devices, *(left_out.devices if left_out is not None else ())}
    return [budget.device.id for budget in budgets.devices if budget.device.id not in named]


def _passed_over(idle: Sequence[str], budgets: Budgets) -> list[str]:
    """Return those of the idle devices that have their own memory, as llama.cpp prefers."""
    shared = {budget.device.id for budget in budgets.devices if budget.device.shares_host_memory}
    return [name for name in idle if name not in shared]


def _left_out(left_out: LeftOut, budgets: Budgets) -> str:
    names = left_out.devices
    one = len(names) == 1
    overheads = [budget.host_overhead for budget in budgets.devices if budget.device.id in names]
    taken = sum(overhead.n_bytes + overhead.band_bytes for overhead in overheads)
    contexts = "its context takes" if one else "their contexts take"
    why = f": {contexts} up to {format_bytes(taken)} of it" if taken else ""
    return (
        f"{format_device_ids(names)} {'is' if one else 'are'} left out: with {'it' if one else 'them'} "
        f"{format_bytes(left_out.missing_bytes)} of RAM would be missing{why}"
    )


def _all_on_devices(placement: Placement) -> bool:
    experts = placement.host_expert_blocks or placement.host_expert_parts
    return placement.n_gpu_layers > placement.n_block and not experts


def _overridden(sent: OverriddenWeights) -> str:
    tensors = f"{sent.n_tensors} tensor{'s' * (sent.n_tensors != 1)}"
    place = "the host" if sent.where == HOST else sent.where
    return f"-ot: {tensors} ({format_bytes(sent.n_bytes)}) on {place} as asked"


def _where(demand: Demand, placement: Placement, budgets: Budgets) -> str:
    n_block = placement.n_block
    experts = placement.host_expert_blocks
    if not placement.devices:
        if not budgets.devices:
            return "everything on the host: there is no GPU to use"
        return "everything on the host: no GPU has room for a block and its compute buffer"
    if placement.n_gpu_layers <= n_block:
        n_host = n_block + 1 - placement.n_gpu_layers
        return f"the first {n_host} of {n_block} blocks on the host, the others on devices: more do not fit"
    if not experts and not placement.host_expert_parts:
        return f"all {n_block} blocks and the output layer on {_joined(placement.devices)}"
    n_expert_blocks = len(demand.weights.expert_blocks)
    n_bytes = sum(demand.weights.layers[block].expert_bytes for block in experts)
    n_parts = len(placement.host_expert_parts)
    on_host = [
        f"the {' and '.join(kinds)} experts of block {block}" for block, kinds in placement.host_expert_parts
    ]
    if experts:
        on_host.insert(0, f"those of blocks {format_ranges(experts)} ({format_bytes(n_bytes)})")
    n_on_devices = n_expert_blocks - len(experts) - n_parts
    return (
        f"dense weights and caches on devices, and the experts of {n_on_devices} of {n_expert_blocks} "
        f"blocks; {', '.join(on_host)} on the host"
    )


def describe_budgets(machine: Machine, budgets: Budgets) -> tuple[str, ...]:
    """Say how much of the machine may be used, and how much is kept back."""
    limit = budgets.max_ram_bytes
    at_most = "" if limit is None else f", no more than the {format_bytes(limit)} of --max-ram"
    reasons = [
        (
            f"RAM budget {format_bytes(budgets.host_bytes)}: {format_bytes(machine.ram_available_bytes)} "
            f"available, {format_bytes(budgets.ram_reserve_bytes)} left to others{at_most}"
        )
    ]
    # Devices with the same budget share a sentence.
    sentences: dict[str, list[str]] = {}
    for budget in budgets.devices:
        device = budget.device
        screen = ", more because it drives a screen" if device.display else ""
        free = "an idle card" if device.free_bytes is None else f"{format_bytes(device.free_bytes)} free"
        sentence = (
            f"budget {format_bytes(budget.n_bytes)}: {free}, {format_bytes(budget.margin_bytes)} kept{screen}"
        )
        if budget.in_ram:
            sentence += "; a part of the RAM budget, not besides it"
        sentences.setdefault(sentence, []).append(device.id)
    reasons += [f"{format_device_ids(ids)} {sentence}" for sentence, ids in sentences.items()]
    behind: dict[str, list[str]] = {}
    for budget in budgets.devices:
        if budget.device.peer is not None:
            behind.setdefault(budget.device.label, []).append(budget.device.id)
    reasons += [f"{format_device_ids(ids)}: {label}, over RPC" for label, ids in behind.items()]
    reasons += [
        _whose_memory(machine, budget) for budget in budgets.devices if budget.device.shares_host_memory
    ] * is_contained(machine)
    return tuple(reasons)


def _whose_memory(machine: Machine, budget: DeviceBudget) -> str:
    """Say if a container's limit counts the memory of a GPU that has the host's."""
    name, charge, whole = budget.device.id, charge_of(budget.device), host_available(machine)
    if charge is Charge.CGROUP:
        return f"{name} has memory that the container's limit counts"
    known = (
        f"the host has {format_bytes(whole)} available"
        if whole is not None
        else "how much the host has available does not show here"
    )
    if charge is Charge.HOST:
        return f"{name} has the host's memory, which this container's limit does not count: {known}"
    most = free_bytes(budget.device) if whole is None else min(free_bytes(budget.device), whole)
    return (
        f"{name} has memory of which it is not known if the container's limit counts it: planned as if it "
        f"did; if it does not, up to {format_bytes(most)}"
    )


def describe_whole_texts(metadata: Mapping[str, Value], parameters: ContextParameters) -> tuple[str, ...]:
    """Say how long a text a server of embeddings takes, where it has to read it in one batch."""
    if not parameters.embedding:
        return ()
    pooling = parameters.pooling
    # server_slot::can_split (tools/server/server-context.cpp); what attends both ways has no memory
    architecture = metadata.get("general.architecture")
    own = metadata.get(f"{architecture}.pooling_type")
    kinds = tuple(Pooling)  # in the order of enum llama_pooling_type (include/llama.h)
    kind = kinds[own] if pooling is None and isinstance(own, int) and 0 <= own < len(kinds) else pooling
    causal = metadata.get(f"{architecture}.attention.causal", True)
    if causal and kind in {Pooling.LAST, Pooling.RANK}:
        return ()
    most = parameters.ubatch_size
    return (f"a text is read in one batch: of more than {most} tokens it is refused, -b N -ub N takes more",)


def describe_missing(quant: str, row: LedgerRow) -> str:
    place = "RAM" if row.where == HOST else f"{row.where} ({row.name})"
    return f"{quant} does not fit: {describe_overrun(place, row)}"


def describe_overrun(place: str, row: LedgerRow) -> str:
    """Say how much a row that does not fit lacks."""
    used, budget = row.memory
    with_devices = ""
    if row.where == HOST and row.shared_bytes:
        with_devices = f", {format_bytes(row.shared_bytes)} of it for the GPU in the same memory,"
    return (
        f"{place} needs {format_bytes(used)}{with_devices} and its budget is "
        f"{format_bytes(budget)}, {format_bytes(-row.free_bytes)} short"
    )


def describe_companions(companions: CompanionMemory) -> tuple[str, ...]:
    used = [f"{format_bytes(n_bytes)} of {where}" for where, n_bytes in companions.used_bytes.items()]
    left = (f"the model is placed in what is left after {', '.join(used)}",) if used else ()
    return (*companions.reasons, *left)


def describe_host_tensors(tensors: tuple[HostTensor, ...]) -> tuple[str, ...]:
    # A quantised file can put hundreds of tensors on the host for the same reason.
    by_reason: dict[str, list[str]] = {}
    for tensor in tensors:
        by_reason.setdefault(tensor.reason, []).append(tensor.name)
    return tuple(f"{_first_names(names)} on the host: {reason}" for reason, names in by_reason.items())


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def format_ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges: `[1, 2, 3, 7]` as `1-3, 7`."""
    indexed = enumerate(sorted(numbers))
    parts = []
    for _, group in groupby(indexed, key=lambda pair: pair[1] - pair[0]):
        run: Sequence[int] = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(parts)
