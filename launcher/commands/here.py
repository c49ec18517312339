"""What every command works with: where things are kept, whom to ask, whom to tell."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.models.catalogue import Sources, sources_of
from launcher.progress import OnProgress, silent
from launcher.system.settings import Settings, read_settings

Ask = Callable[[str], bool]
"""Asks the user one question; True goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a command is given beside its request.

    `env` is the environment that the hardware is read in and that a server gets. The process's own is never changed,
    so that two models can be brought up by one process. `confirm` asks before a large download or a build and
    goes on where nobody can be asked; `consent` asks before what must not be done unasked, and then does not.
    """

    settings: Settings
    sources: Sources
    env: Mapping[str, str]
    confirm: Ask
    consent: Ask
    on_progress: OnProgress


def _nobody(_question: str) -> bool:
    return False


def here_with(
    on_progress: OnProgress = silent,
    *,
    offline: bool = False,
    env: tuple[tuple[str, str], ...] = (),
    confirm: Ask = _nobody,
    consent: Ask = _nobody,
    broken: Callable[[UsageError], None] | None = None,
) -> Here:
    """Read settings and sources for one command; `env` is added to the process's own environment.

    Raises UsageError for a config file that cannot be read; gives it to `broken`, where given, and goes on without.
    """
    settings = read_settings(broken)
    return Here(
        settings=settings,
        sources=sources_of(settings, offline=offline),
        env={**os.environ, **dict(env)},  # a device that a variable hides is hidden from the plan too
        confirm=functools.cache(confirm),  # nothing is asked twice
        consent=consent,
        on_progress=on_progress,
    )
