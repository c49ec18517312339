"""Explain what a command line needs memory for, who put it where, and what fails first."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.check.configuration import Configuration
from launcher.plan.check.fit import FitOutcome, FittedLine, declines
from launcher.plan.memory.assign import Assignment, Share
from launcher.plan.memory.budget import Budgets
from launcher.plan.memory.host_memory import ServerCaches, describe_caches, describe_cure
from launcher.plan.memory.tensor_split import proportions, splits_tensors
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.overrides import matches_any
from launcher.plan.reasons import describe_budgets, describe_host_tensors, describe_overrun, format_ranges
from launcher.units import format_bytes

CURED = " cures it"  # ends a sentence on what is missing, after the flags to add


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    configuration: Configuration
    machine: Machine
    budgets: Budgets
    question: Question
    assignment: Assignment
    ledger: tuple[LedgerRow, ...]
    overrun_places: tuple[str, ...]  # rows over budget, the first to fail first
    answer: Answer | Refusal
    tensor_names: tuple[str, ...]
    fit: FittedLine
    table_reasons: tuple[str, ...] = ()  # sentences on tables that are read by rows
    caches: ServerCaches | None = None
    companion_reasons: tuple[str, ...] = ()  # sentences on the draft model and the projector
    text_reasons: tuple[str, ...] = ()  # sentences on how long a text is taken whole


def explain_check(facts: Facts) -> tuple[str, ...]:
    """Return every sentence, what fails first."""
    return (
        *_explain_overruns(facts),
        *_explain_fit(facts),
        *_explain_layers(facts),
        *_explain_experts(facts),
        *_explain_host(facts),
        *facts.text_reasons,
        *facts.table_reasons,
        *facts.companion_reasons,
        *_explain_basis(facts),
        *describe_budgets(facts.machine, facts.budgets),
    )


def _explain_overruns(facts: Facts) -> tuple[str, ...]:
    rows = {row.where: row for row in facts.ledger}
    sentences = []
    for where in facts.overrun_places:
        row = rows[where]
        cure = _describe_cure(facts, row) or _describe_margin(facts, row)
        sentences.append(f"{describe_overrun(_place(where), row)}{cure}")
    unbalanced = _explain_imbalance(facts)
    return (*sentences, *((unbalanced,) if unbalanced else ()))


def _describe_cure(facts: Facts, row: LedgerRow) -> str:
    """Name the flags with which the server's caches leave as much RAM as is missing."""
    if row.where != HOST or facts.caches is None:
        return ""
    flags = describe_cure(facts.caches, -row.free_bytes)
    return f"; {flags}{CURED}" if flags else ""


def _describe_margin(facts: Facts, row: LedgerRow) -> str:
    """Say if the row would fit without the margin that a budget keeps free: llama-server may then start."""
    margins = {budget.device.id: budget.margin_bytes for budget in facts.budgets.devices}
    margin = margins.get(row.where, 0)
    if -row.free_bytes > margin:
        return ""
    return f", which is less than the {format_bytes(margin)} kept free there: it may start and fail later"


def _explain_imbalance(facts: Facts) -> str | None:
    """Explain why another card is over budget if experts on the host relieve one card only."""
    # The usual case: --n-cpu-moe takes the experts of the first blocks, which are all on the first card.
    devices = [share for share in facts.assignment.shares if share.where != HOST]
    moved = set(facts.assignment.moved_blocks)
    first = next(
        (where for where in facts.overrun_places if any(share.where == where for share in devices)), None
    )
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
        f"the blocks whose experts went to the host ({format_ranges(sorted(moved))}) are mostly "
        f"{relieved.where}'s, which keeps the experts of {_count(len(relieved.expert_blocks), 'block')} "
        f"and has {format_bytes(max(rows[relieved.where].free_bytes, 0))} left; "
        f"{first} still holds those of {_count(len(fullest.expert_blocks), 'block')}, "
        f"{format_bytes(fullest.expert_bytes)}: layers are split by count, not by bytes"
    )


def _explain_layers(facts: Facts) -> tuple[str, ...]:
    question, assignment = facts.question, facts.assignment
    if not question.devices:
        why = "no device is used" if facts.machine.devices else "there is no GPU"
        return (f"everything on the host: {why}",)
    shares = [share for share in assignment.shares if share.layers]
    listed = ", ".join(f"{share.where} {_describe_share(share, assignment.n_block)}" for share in shares)
    sentences = [listed]
    if splits_tensors(question):
        sentences = [_explain_tensor_split(question, shares[0], assignment.n_block)] if shares else []
    elif len(question.devices) > 1:
        split = ":".join(f"{part:g}" for part in question.tensor_split)
        by = f"in proportion {split}" if split else "in proportion to free memory"
        sentences = [f"layers by count, {by}: {listed}"]
    rows = {row.where for row in facts.ledger}
    unused = [device.id for device in facts.machine.devices if device.id not in rows]
    if unused:
        alone = facts.configuration.split_mode is SplitMode.NONE
        sentences.append(f"{', '.join(unused)} not used{': --split-mode none' if alone else ''}")
    return tuple(sentences)


def _explain_tensor_split(question: Question, share: Share, n_block: int) -> str:
    parts = " : ".join(
        f"{device.id} {part:.0%}"
        for device, part in zip(question.devices, proportions(question), strict=True)
    )
    return (
        f"--split-mode tensor: the weights and caches of {_describe_share(share, n_block)} are divided, "
        f"{parts}; norms and routers are copied, and compute buffers have their full size on every device"
    )


def _describe_share(share: Share, n_block: int) -> str:
    blocks = [layer for layer in share.layers if layer < n_block]
    output = "the output layer" if n_block in share.layers else ""
    named = f"block{'s' if len(blocks) > 1 else ''} {format_ranges(blocks)}" if blocks else ""
    return " and ".join(filter(None, (named, output)))


def _explain_experts(facts: Facts) -> tuple[str, ...]:
    moved, n_block = facts.assignment.moved_blocks, facts.assignment.n_block
    sentences = []
    if moved:
        host = facts.assignment.share(HOST)
        on_devices = ", ".join(
            f"{share.where} {len(share.expert_blocks)} of its "
            f"{sum(layer < n_block for layer in share.layers)}"
            for share in facts.assignment.shares
            if share.where != HOST
        )
        sentences.append(
            f"experts of blocks {format_ranges(moved)} on the host ({format_bytes(host.expert_bytes)}); "
            f"blocks whose experts stay on their device: {on_devices}"
        )
    sentences += [
        f"-ot {rule.pattern}={rule.where} finds no tensor: llama-server takes it silently"
        for rule in facts.configuration.overrides
        if not rule.pattern.startswith("blk\\.") and not matches_any(rule, facts.tensor_names)
    ]
    return tuple(sentences)


def _explain_host(facts: Facts) -> tuple[str, ...]:
    sentences: list[str] = []
    if isinstance(facts.answer, Answer):
        sentences += describe_host_tensors(facts.answer.host_tensors)
    if not facts.question.kv_offload and facts.question.devices:
        sentences.append("the KV cache is on the host: --no-kv-offload")
    configuration = facts.configuration
    if configuration.cache_ram_bytes is None:
        sentences.append(
            "the prompt cache has no limit (--cache-ram -1): it is not counted, and grows until RAM is gone"
        )
    elif configuration.cache_ram_bytes:
        whose = "as asked" if configuration.cache_ram_given else "llama-server's default"
        sentences.append(
            f"the prompt cache is counted at its limit of {format_bytes(configuration.cache_ram_bytes)}, "
            f"{whose}: it fills while the server runs, --cache-ram N sets it in MiB"
        )
    sentences += describe_caches(facts.caches) if facts.caches else ()
    return tuple(sentences)


def _explain_fit(facts: Facts) -> tuple[str, ...]:
    """Say what llama-server's `--fit` has made of the line."""
    fit = facts.fit
    if fit.outcome is FitOutcome.CHANGED:
        return (f"--fit makes of this line: {', '.join(_fitted_parts(facts))}{_unlimited(facts)}",)
    if fit.outcome is FitOutcome.GAVE_UP and fit.is_shorter:
        pool = facts.question.ctx_size
        why = f": {fit.why}" if fit.why else ""
        return (f"--fit has shortened the context to {pool} tokens and leaves the layers alone{why}",)
    if fit.outcome is FitOutcome.OFF or not facts.overrun_places:
        return ()
    if facts.question.devices and set(facts.overrun_places) == {HOST}:
        return ("--fit is on and changes nothing: it does not look at the host's memory",)
    if fit.outcome is FitOutcome.UNKNOWN:
        return (_possible_changes(facts),)
    return (f"--fit is on and changes nothing: {fit.why or 'by its own count the line fits'}",)


def _possible_changes(facts: Facts) -> str:
    """Say what fit would try (common/fit.cpp), where it cannot be run."""
    configuration, n_devices = facts.configuration, len(facts.question.devices)
    declined = declines(configuration, n_devices)
    changes = []
    if configuration.ctx_size is None:
        changes.append(f"shorten the context, to {configuration.fit_ctx} tokens at the least")
    if not declined:
        changes.append("put layers or experts on the host")
    limits = f"; it leaves the layers alone, because {declined}" if declined and n_devices else ""
    unlimited = "" if declined else "; it takes the host's memory for unlimited"
    return (
        f"--fit is on: llama-server itself would {' and '.join(changes)}{limits}{unlimited}. "
        f"How far is not known: {facts.fit.why}"
    )


def _fitted_parts(facts: Facts) -> tuple[str, ...]:
    """Name what fit has chosen: the context, the layers on devices, the experts on the host."""
    assignment, fit = facts.assignment, facts.fit
    parts = []
    if fit.is_shorter:
        parts.append(f"a context of {facts.question.ctx_size} tokens")
    if fit.is_placed:
        total = assignment.n_block + 1
        on_devices = min(facts.question.n_gpu_layers or 0, total)
        where = "all" if on_devices == total else str(on_devices)
        names = " and ".join(
            share.where for share in assignment.shares if share.where != HOST and share.layers
        )
        parts.append(f"{where} of {total} layers on {names}" if names else "no layer on a device")
    if fit.is_placed and assignment.moved_blocks:
        ranges = format_ranges(assignment.moved_blocks)
        parts.append(f"experts of blocks {ranges} on the host")
    return tuple(parts)


def _unlimited(facts: Facts) -> str:
    short = facts.fit.is_placed and HOST in facts.overrun_places
    return "; it takes the host's memory for unlimited" if short else ""


def _explain_basis(facts: Facts) -> tuple[str, ...]:
    if isinstance(facts.answer, Answer):
        return (f"memory simulated by {facts.answer.engine}",)
    if facts.answer.model_refused:
        return ()
    return (f"memory is estimated, not simulated: {facts.answer.reason}",)


def _place(where: str) -> str:
    return "RAM" if where == HOST else where


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
