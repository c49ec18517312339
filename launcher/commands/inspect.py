"""Resolve what was typed to a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from launcher.commands.here import Here
from launcher.models.catalogue import Target, resolve
from launcher.models.located import Located
from launcher.progress import OnProgress


def inspect(here: Here, ref: str, quant: str | None = None) -> Target:
    """Resolve a REF to a model and its quants, best first.

    Raises UsageError, NotFound, and what listing a repo raises.
    """
    # a repo is listed now, those of a profile when one of its quants is opened
    return resolve(ref, quant, here.sources)


def opened_once(target: Target) -> Target:
    """Return the target with quants that keep their headers: opened again, they ask nobody."""
    return replace(
        target,
        candidates=tuple(replace(candidate, open=_kept(candidate.open)) for candidate in target.candidates),
    )


def _kept(open_: Callable[[OnProgress], Located]) -> Callable[[OnProgress], Located]:
    opened: list[Located] = []

    def open_or_return(on_progress: OnProgress) -> Located:
        if not opened:
            opened.append(open_(on_progress))
        return opened[0]

    return open_or_return


def read_headers(here: Here, ref: str, quant: str | None = None) -> Located:
    """Read the headers of the named quant, or of the best one."""
    return inspect(here, ref, quant).candidates[0].open(here.on_progress)
