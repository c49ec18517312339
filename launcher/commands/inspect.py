"""From what was typed to a model: the first step of every command that takes a REF."""

from __future__ import annotations

from launcher.commands.here import Here
from launcher.models.catalogue import Target, resolve
from launcher.models.located import Located


def inspect(here: Here, ref: str, quant: str | None = None) -> Target:
    """Resolve a REF to a model and its quants, best first.

    A Hub repo is listed now, or when its first quant is opened; later looks at the same target ask the Hub no more.
    Raises UsageError, NotFound, and what listing a repo raises.
    """
    return resolve(ref, quant, here.sources)


def read_headers(here: Here, ref: str, quant: str | None = None) -> Located:
    """Read the headers of the named quant, or of the best one. Raises what `inspect` and reading raise."""
    return inspect(here, ref, quant).candidates[0].open(here.on_progress)
