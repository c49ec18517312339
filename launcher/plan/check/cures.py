"""Find one flag that would make a command line fit, to be checked like the line itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.check.configuration import Configuration
from launcher.plan.expert_pattern import EXPERTS, block_pattern
from launcher.plan.memory.assign import Assignment
from launcher.plan.modes import LazyMode, TensorOverride
from launcher.plan.oracle import Question

MOST_TRIED = 4  # each may be a simulation
_LEAST_CTX = 4096
_SLACK = 1.05  # compute buffers change with what is moved


def cures(
    configuration: Configuration,
    question: Question,
    assignment: Assignment,
    ledger: Sequence[LedgerRow],
    *,
    has_table: bool,  # that can be read by rows
) -> Iterator[tuple[str, Configuration]]:
    """Yield (flags to add, the configuration with them), the mildest first; none is known to do yet."""
    short = [row for row in ledger if row.free_bytes < 0]
    if has_table and not ledger[-1].file_bytes:
        yield "--lazy-mode on", replace(configuration, lazy_mode=LazyMode.ON)
    # Caches shrink with the context, and where masks or scores are the most of them, compute buffers do.
    for size in dict.fromkeys(_shorter_context(question, short, with_compute=both) for both in (False, True)):
        if size:
            yield f"-c {size}", replace(configuration, ctx_size=size, ctx_per_slot=0)
    on_devices = [row for row in short if row.where != HOST]
    places = {share.where for share in assignment.shares}
    if not on_devices or len(on_devices) < len(short) or not {row.where for row in short} <= places:
        return  # what leaves a device goes to the host; companions move by flags of their own
    if blocks := _first_blocks(assignment, on_devices):
        rule = TensorOverride(pattern=block_pattern(range(blocks), EXPERTS), where=HOST)
        changed = replace(configuration, overrides=(*configuration.overrides, rule))
        yield f"-ncmoe {blocks}", changed
    elif layers := _fewer_layers(question, assignment, on_devices):
        yield f"-ngl {layers}", replace(configuration, n_gpu_layers=layers, layers_given=True)


def _shorter_context(question: Question, short: Sequence[LedgerRow], *, with_compute: bool) -> int:
    """Return the context under which every row shrinks by what it lacks; 0 if none would do."""
    size = question.ctx_size
    for row in short:
        shrinks = row.kv.n_bytes + (row.compute.n_bytes if with_compute else 0)
        if not shrinks:
            return 0
        left = 1 + _SLACK * row.free_bytes / shrinks
        size = min(size, int(question.ctx_size * left) // 256 * 256)
    return size if size >= _LEAST_CTX else 0


def _first_blocks(assignment: Assignment, short: Sequence[LedgerRow]) -> int:
    """Return how many blocks' experts relieve every row on their way to the host; 0 if they cannot."""
    blocks = 0
    for row in short:
        share = assignment.share(row.where)
        if not share.expert_blocks:
            return 0
        each = share.expert_bytes / len(share.expert_blocks)
        needed = int(-row.free_bytes * _SLACK / each) + 1
        if needed > len(share.expert_blocks):
            return 0
        blocks = max(blocks, share.expert_blocks[needed - 1] + 1)
    return blocks


def _fewer_layers(question: Question, assignment: Assignment, short: Sequence[LedgerRow]) -> int:
    """Return the layers that fit on devices, if all of them shrink in proportion; 0 if none would."""
    used = sum(len(share.layers) for share in assignment.shares if share.where != HOST)
    least = float(used)
    for row in short:
        parts = row.weights.n_bytes + row.kv.n_bytes
        least = min(least, used * (1 + _SLACK * row.free_bytes / parts)) if parts else 0.0
    return max(int(least), 0) if question.devices else 0
