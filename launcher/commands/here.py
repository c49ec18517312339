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
    """What a command is given beside its request."""

    settings: Settings
    sources: Sources
    # of the hardware look and of servers; the process's own is never changed: one process may start many
    env: Mapping[str, str]
    # before a large download or a build; where nobody can be asked the answer is yes
    confirm: Ask
    # before what must not be done unasked; where nobody can be asked the answer is no
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
    """Read settings and sources for one command; `env` is added to the process's environment.

    A config file that cannot be read goes to `broken`, where given; else raises UsageError.
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
