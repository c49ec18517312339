"""Search the Hub for models, and say which of their quants this machine could hold."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.commands.claims import unreserved_machine
from launcher.commands.here import Here
from launcher.commands.probe import MachineChoice
from launcher.errors import LauncherError, NotFound, UsageError
from launcher.gguf.file_names import FileGroup
from launcher.machine.machine import Machine
from launcher.machine.shared_memory import memory_bytes
from launcher.models.hub.api import ask_search
from launcher.models.hub.endpoint import not_cached
from launcher.models.hub.quants import list_quants
from launcher.models.hub.repo import list_repo
from launcher.models.refs import ModelRef, RefKind
from launcher.units import one_line

_LONGEST_QUERY = 200
# Of the memory: what a context, its buffers and the system take of it is known after `plan` alone.
_LEFT_FOR_WEIGHTS = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedRepo:
    name: str
    downloads: int
    is_gated: bool
    quants: tuple[FileGroup, ...]  # by size; empty if they could not be listed
    fits: FileGroup | None  # the largest whose file is small enough
    trouble: str | None  # why they could not be listed


def search_hub(here: Here, choice: MachineChoice, query: str, most: int) -> tuple[SearchedRepo, ...]:
    """Return what the Hub finds, most downloaded first. Raises NotFound, TryAgain, UsageError."""
    words = query.strip()
    if not words or len(words) > _LONGEST_QUERY:
        raise UsageError(
            f"a query has 1 to {_LONGEST_QUERY} characters, and this one {len(words)}",
            hint="launcher search qwen3",
        )
    if here.sources.endpoint.offline:
        raise not_cached(here.sources.endpoint, f"a search for {one_line(words)!r}")
    machine = unreserved_machine(here, choice)
    found = ask_search(words, most, here.sources.endpoint)
    if not found:
        raise NotFound(
            f"the Hub finds no repo with GGUF files for {one_line(words)!r}",
            hint="launcher models",
        )
    rows = []
    for repo in found:
        quants: tuple[FileGroup, ...] = ()
        trouble = None
        try:
            ref = ModelRef(kind=RefKind.HUB, name=repo.name)
            listing = list_repo(ref, endpoint=here.sources.endpoint, store=here.sources.store)
            quants = tuple(group for group in list_quants(listing) if group.is_complete)
        except LauncherError as error:
            trouble = error.message
        rows.append(
            SearchedRepo(
                name=repo.name,
                downloads=repo.downloads,
                is_gated=repo.is_gated,
                quants=quants,
                fits=_largest(quants, machine),
                trouble=trouble,
            )
        )
    return tuple(rows)


def _largest(quants: tuple[FileGroup, ...], machine: Machine) -> FileGroup | None:
    room = memory_bytes(machine) * _LEFT_FOR_WEIGHTS
    small = [group for group in quants if group.size_bytes <= room]
    return max(small, key=lambda group: group.size_bytes, default=None)
