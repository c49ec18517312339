"""Settings that `tune` found faster: keep them, and plan with them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.planned import Planned, PlanRequest
from launcher.deployment.history import HISTORY_LIMIT_BYTES
from launcher.engine.flags.user_flags import carried_flags
from launcher.errors import TryAgain, UsageError
from launcher.machine.rig import rig_of
from launcher.plan.tuning.tuned import Tuned, parse_tuned, tuned_json
from launcher.system.atomic_files import append_line
from launcher.system.json_object import Malformed
from launcher.system.settings import Settings
from launcher.system.small_files import read_small


def keep_tuned(here: Here, tuned: Tuned) -> None:
    """Append what was found; the last of a model counts. Raises TryAgain."""
    file = here.settings.tuned_file
    try:
        append_line(file, json.dumps(tuned_json(tuned)), HISTORY_LIMIT_BYTES)
    except OSError as error:
        raise TryAgain(f"{file} cannot be written: {error.strerror}", hint="launcher doctor") from error


def plan_with_tuned(
    settings: Settings, asked: PlanRequest, planned: Planned, again: Callable[[PlanRequest], Planned]
) -> Planned:
    """Plan the chosen quant again with what was tuned for it here; the first plan if that does not fit.

    What the user has typed comes before what was tuned.
    """
    found = _find(settings, planned)
    if found is None or planned.plan is None or asked.untuned:
        return planned
    words = carried_flags(found.words, asked.flags, asked.workload)
    if not words:
        return planned
    flags = (*asked.flags, *words)
    request = replace(asked, quant=planned.plan.quant, flags=flags, untuned=True)
    try:
        tuned = again(request)
    except UsageError as error:  # another profile or other flags by now
        return _with_reason(planned, f"tuned settings are left out, {error.message}: {' '.join(words)}")
    if tuned.plan is None or tuned.plan.unverified is not None:
        return _with_reason(planned, f"tuned settings are left out, they do not fit now: {' '.join(words)}")
    gain = f"{' '.join(words)}, {found.ratio:.2f} times as fast for {found.workload}"
    what = f"{gain}; --untuned leaves it out"
    choice = replace(tuned.choice, rejected=planned.choice.rejected)
    tuned = replace(tuned, choice=choice, tuned=what)
    return _with_reason(tuned, f"tuned on {found.date} (launcher tune): {what}")


def _with_reason(planned: Planned, why: str) -> Planned:
    plan = planned.plan
    if plan is None:
        return planned
    plan = replace(plan, reasons=(*plan.reasons, why))
    return replace(planned, choice=replace(planned.choice, plan=plan))


def _find(settings: Settings, planned: Planned) -> Tuned | None:
    known, located = planned.capabilities, planned.located
    if known is None or located is None:
        return None
    rig, commit = rig_of(planned.machine), known.version.commit
    found = [each for each in _read(settings.tuned_file) if each.is_of(located.model, rig, commit)]
    return found[-1] if found and found[-1].words else None


def _read(file: Path) -> Iterator[Tuned]:
    for path in (file.with_name(f"{file.name}.1"), file):
        with contextlib.suppress(OSError):
            for line in read_small(path, 2 * HISTORY_LIMIT_BYTES).split(b"\n"):
                with contextlib.suppress(Malformed):
                    yield parse_tuned(line)
