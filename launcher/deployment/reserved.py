"""Count what claims reserve and the system still reports as free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from launcher.deployment.claims import Claim
from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.plan.amounts import RAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    rows: Mapping[str, int]  # bytes by GPU (as in a claim) and RAM
    by_claim: tuple[tuple[Claim, int], ...] = field(default=())  # the bytes that each is left


class _Memory(NamedTuple):
    anonymous: int  # belongs to no file: the system does not report it as free
    resident: int
    owner: int


def count_reserved(claims: Iterable[Claim]) -> Reserved:
    """Count the bytes that claims reserve beyond what their processes visibly take.

    A stranger's claim counts at most for what the claim's processes hold of a kind that the system calls
    available: mapped files in RAM.
    """
    trees, counted = _Trees(), set[int]()
    total: dict[str, int] = {}
    by_claim: list[tuple[Claim, int]] = []
    for claim in claims:
        left = _left_of_ours(claim, trees) if claim.is_trusted else _left_of_strangers(claim, trees, counted)
        for row, size in left.items():
            total[row] = total.get(row, 0) + size
        by_claim.append((claim, sum(left.values())))
    return Reserved(rows=total, by_claim=tuple(by_claim))


def _left_of_ours(claim: Claim, trees: _Trees) -> dict[str, int]:
    left = {}
    for row, size in claim.rows.items():
        if row == RAM:
            # Mapped weights look available to the kernel and are not available to a plan, so only the
            # process's anonymous memory counts as taken.
            anonymous = sum(_memory_of(pid).anonymous for pid in trees.of(claim.process))
            left[row] = max(0, size - anonymous)
        else:
            left[row] = 0 if claim.loaded else size
    return {row: size for row, size in left.items() if size}


def _left_of_strangers(claim: Claim, trees: _Trees, counted: set[int]) -> dict[str, int]:
    # Memory on GPUs that is held is not reported as free, and what is not held is only a word. `counted` has
    # the processes of earlier claims: many claims on one process are no more than one.
    pids = [pid for pid in trees.of(claim.process) if pid not in counted]
    counted.update(pids)
    held = [memory for pid in pids if (memory := _memory_of(pid)).owner == claim.owner]
    resident, anonymous = sum(each.resident for each in held), sum(each.anonymous for each in held)
    left = max(0, min(claim.rows.get(RAM, 0), resident) - anonymous)
    return {RAM: left} if left else {}


class _Trees:
    """Processes with their descendants, from one look at all processes."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] | None = None

    def of(self, process: ProcessId) -> list[int]:
        if find_presence(process) is not Presence.RUNNING:
            return []
        if self._children is None:
            self._children = _children_by_pid()
        tree = {process.pid: None}  # in order; a pid that was reused during the look makes no circle
        todo = [process.pid]
        while todo:
            below = [child for child in self._children.get(todo.pop(), ()) if child not in tree]
            tree |= dict.fromkeys(below)
            todo += below
        return list(tree)


def _children_by_pid() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for seen in psutil.process_iter(["ppid"]):
        children.setdefault(seen.info["ppid"] or 0, []).append(seen.pid)
    return children


def _memory_of(pid: int) -> _Memory:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        with contextlib.suppress(psutil.Error):
            seen = psutil.Process(pid)
            resident = int(seen.memory_info().rss)  # this system does not tell the kinds of memory apart
            return _Memory(resident, resident, seen.uids().real)
        return _Memory(0, 0, -1)
    # proc(5)
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    anonymous, in_files = (
        sum(int(fields[name].split()[0]) * 1024 for name in names if name in fields)
        for names in (("RssAnon", "RssShmem"), ("RssFile",))
    )
    return _Memory(anonymous, anonymous + in_files, int(fields["Uid"].split()[0]))
