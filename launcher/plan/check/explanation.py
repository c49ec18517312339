"""Why a command line needs what it needs, in sentences: who sits where at whose wish, and what that does to the
device that has no room.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.check.configuration import Configuration
from launcher.plan.memory.assign import Assignment, Share
from launcher.plan.memory.budget import Budgets, device_margin
from launcher.plan.memory.tensor_split import proportions, splits_tensors
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.overrides import matches_any
from launcher.plan.reasons import describe_budgets, describe_host_tensors, format_ranges
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that an explanation draws on. `short` are the places without room, the first to fail first;
    `beside` are sentences on what is loaded beside the model."""

    configuration: Configuration
    machine: Machine
    budgets: Budgets
    question: Question
    assignment: Assignment
    ledger: tuple[LedgerRow, ...]
    short: tuple[str, ...]
    answer: Answer | Refusal
    tensor_names: tuple[str, ...]
    beside: tuple[str, ...] = ()


def explain_check(facts: Facts) -> tuple[str, ...]:
    """Every sentence, what failed first."""
    return (
        *_failing(facts),
        *_layers(facts),
        *_experts(facts),
        *_host(facts),
        *facts.beside,
        *_fit(facts),
        *_basis(facts),
        *describe_budgets(facts.machine, facts.budgets),
    )


def _failing(facts: Facts) -> tuple[str, ...]:
    rows = {row.where: row for row in facts.ledger}
    said = []
    for where in facts.short:
        row = rows[where]
        said.append(
            f"{_place(where)} needs {format_bytes(row.used_bytes)} and its budget is "
            f"{format_bytes(row.budget_bytes)}, {format_bytes(-row.free_bytes)} short{_within_margin(facts, row)}"
        )
    unbalanced = _unbalanced(facts)
    return (*said, *((unbalanced,) if unbalanced else ()))


def _within_margin(facts: Facts, row: LedgerRow) -> str:
    """Room that is only short because some is kept free: llama-server may start all the same."""
    device = next((device for device in facts.question.devices if device.id == row.where), None)
    if device is None or -row.free_bytes > device_margin(device):
        return ""
    return f", which is less than the {format_bytes(device_margin(device))} kept free there: it may start and fail later"


def _unbalanced(facts: Facts) -> str | None:
    """The classic: experts of the first blocks sent to the host, which empties the first card only."""
    devices = [share for share in facts.assignment.shares if share.where != HOST]
    moved = set(facts.assignment.moved_blocks)
    first = next((where for where in facts.short if any(share.where == where for share in devices)), None)
    if splits_tensors(facts.question):
        return None
    if first is None or len(devices) < 2 or not moved:
        return None
    rows = {row.where: row for row in facts.ledger}
    fullest = facts.assignment.share(first)
    emptied = [
        share
        for share in devices
        if share.where != first and len(moved & set(share.layers)) > len(moved & set(fullest.layers))
    ]
    if not emptied:
        return None
    relieved = max(emptied, key=lambda share: rows[share.where].free_bytes)
    return (
        f"the blocks whose experts went to the host ({format_ranges(sorted(moved))}) are mostly {relieved.where}'s, which keeps "
        f"the experts of {_count(len(relieved.expert_blocks), 'block')} and has "
        f"{format_bytes(max(rows[relieved.where].free_bytes, 0))} left; "
        f"{first} still holds those of {_count(len(fullest.expert_blocks), 'block')}, "
        f"{format_bytes(fullest.expert_bytes)}: layers are split by count, not by bytes"
    )


def _layers(facts: Facts) -> tuple[str, ...]:
    """Who has which layers, and what decided it."""
    question, assignment = facts.question, facts.assignment
    if not question.devices:
        there = bool(facts.machine.devices)
        return (
            "everything on the host: no device is used"
            if there
            else "everything on the host: there is no GPU",
        )
    shares = [share for share in assignment.shares if share.layers]
    listed = ", ".join(f"{share.where} {_describe(share, assignment.n_block)}" for share in shares)
    said = [listed]
    if splits_tensors(question):
        said = [_divided(question, shares[0], assignment.n_block)] if shares else []
    elif len(question.devices) > 1:
        split = ":".join(f"{part:g}" for part in question.tensor_split)
        by = f"in proportion {split}" if split else "in proportion to free memory"
        said = [f"layers by count, {by}: {listed}"]
    rows = {row.where for row in facts.ledger}
    unused = [device.id for device in facts.machine.devices if device.id not in rows]
    if unused:
        alone = facts.configuration.split_mode is SplitMode.NONE
        said.append(f"{', '.join(unused)} not used{': --split-mode none' if alone else ''}")
    return tuple(said)


def _divided(question: Question, share: Share, n_block: int) -> str:
    parts = " : ".join(
        f"{device.id} {part:.0%}"
        for device, part in zip(question.devices, proportions(question), strict=True)
    )
    return (
        f"--split-mode tensor: the weights and caches of {_describe(share, n_block)} are divided, {parts}; "
        "norms and routers are copied, and compute buffers have their full size on every device"
    )


def _describe(share: Share, n_block: int) -> str:
    blocks = [layer for layer in share.layers if layer < n_block]
    output = "the output layer" if n_block in share.layers else ""
    named = f"block{'s' if len(blocks) > 1 else ''} {format_ranges(blocks)}" if blocks else ""
    return " and ".join(filter(None, (named, output)))


def _experts(facts: Facts) -> tuple[str, ...]:
    moved, n_names = facts.assignment.moved_blocks, facts.tensor_names
    said = []
    if moved:
        host = facts.assignment.share(HOST)
        kept = ", ".join(
            f"{share.where} {len(share.expert_blocks)} of its {sum(layer < facts.assignment.n_block for layer in share.layers)}"
            for share in facts.assignment.shares
            if share.where != HOST
        )
        said.append(
            f"experts of blocks {format_ranges(moved)} on the host ({format_bytes(host.expert_bytes)}); "
            f"blocks whose experts stay on their device: {kept}"
        )
    said += [
        f"-ot {rule.pattern}={rule.where} finds no tensor: llama-server takes it silently"
        for rule in facts.configuration.overrides
        if not rule.pattern.startswith("blk\\.") and not matches_any(rule, n_names)
    ]
    return tuple(said)


def _host(facts: Facts) -> tuple[str, ...]:
    """What lies on the host besides the embedding and asked-for experts, and why."""
    said: list[str] = []
    if isinstance(facts.answer, Answer):
        said += describe_host_tensors(facts.answer.host_tensors)
    if not facts.question.kv_offload and facts.question.devices:
        said.append("the KV cache is on the host: --no-kv-offload")
    configuration = facts.configuration
    if configuration.cache_ram_bytes is None:
        said.append(
            "the prompt cache has no limit (--cache-ram -1): it is not counted, and grows until RAM is gone"
        )
    elif configuration.cache_ram_bytes:
        whose = "as asked" if configuration.cache_ram_given else "llama-server's default"
        said.append(
            f"the prompt cache is counted at its limit of {format_bytes(configuration.cache_ram_bytes)}, {whose}: "
            "it fills while the server runs, --cache-ram N sets it in MiB"
        )
    return tuple(said)


def _fit(facts: Facts) -> tuple[str, ...]:
    """What llama-server would change by itself (common/fit.cpp, common_fit_params)."""
    configuration, devices = facts.configuration, facts.question.devices
    if not configuration.fit or not facts.short:
        return ()
    if configuration.split_mode is SplitMode.TENSOR:
        return ("--fit is on and changes nothing: it declines --split-mode tensor",)
    if devices and set(facts.short) == {HOST}:
        return ("--fit is on and changes nothing: it does not look at the host's memory",)
    changes = []
    if configuration.ctx_size is None:
        changes.append(f"shorten the context, to {configuration.fit_ctx} tokens at the least")
    given = _given(configuration, len(devices))
    if devices and not given:
        changes.append("put layers or experts on the host")
    if not changes:
        return (f"--fit is on and changes nothing: {given or '-c'} is given",)
    limits = f"; it leaves the layers alone, because {given} is given" if given else ""
    unlimited = "; it takes the host's memory for unlimited" if devices and not given else ""
    return (f"--fit is on: llama-server itself would {' and '.join(changes)}{limits}{unlimited}",)


def _given(configuration: Configuration, n_devices: int) -> str | None:
    """The flag that keeps fit from placing layers."""
    if configuration.layers_given:
        return "-ngl"
    if configuration.overrides:
        return "an override of tensors (-ot, --cpu-moe, --n-cpu-moe)"
    if n_devices > 1 and any(configuration.tensor_split):
        return "-ts"
    return "--split-mode row" if n_devices > 1 and configuration.split_mode is SplitMode.ROW else None


def _basis(facts: Facts) -> tuple[str, ...]:
    if isinstance(facts.answer, Answer):
        return (f"memory simulated by {facts.answer.engine}",)
    if facts.answer.model_refused:
        return ()
    return (f"memory is estimated, not simulated: {facts.answer.reason}",)


def _place(where: str) -> str:
    return "RAM" if where == HOST else where


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
