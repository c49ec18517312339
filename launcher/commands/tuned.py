"""Settings that `tune` found faster: keep them, and plan with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from launcher.commands.here import Here
from launcher.commands.measurements import keep_found
from launcher.commands.planned import Planned, PlanRequest, with_reasons
from launcher.engine.flags.user_flags import carried_flags
from launcher.errors import UsageError
from launcher.machine.rig import is_same, rig_of
from launcher.plan.tuning.tuned import Tuned, parse_tuned, tuned_json
from launcher.system.json_lines import read_json_lines
from launcher.system.settings import Settings


def keep_tuned(here: Here, tuned: Tuned) -> None:
    """Append what was found; the last of a model counts. Raises TryAgain."""
    keep_found(here.settings.tuned_file, tuned_json(tuned))


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
    if found.subject.engine != _commit(planned):
        why = f"they were found with another engine, llama.cpp {found.subject.engine}"
        return with_reasons(planned, f"tuned settings are left out, {why}: {' '.join(words)}")
    flags = (*asked.flags, *words)
    request = replace(asked, quant=planned.plan.quant, flags=flags, untuned=True)
    try:
        tuned = again(request)
    except UsageError as error:  # another profile or other flags by now
        return with_reasons(planned, f"tuned settings are left out, {error.message}: {' '.join(words)}")
    if tuned.plan is None or tuned.plan.unverified is not None:
        return with_reasons(planned, f"tuned settings are left out, they do not fit now: {' '.join(words)}")
    gain = f"{' '.join(words)}, {found.ratio:.2f} times as fast for {found.workload}"
    what = f"{gain}; --untuned leaves it out"
    choice = replace(tuned.choice, rejected=planned.choice.rejected)
    tuned = replace(tuned, choice=choice, tuned=what, projector=planned.projector)
    return with_reasons(tuned, f"tuned on {found.subject.date} (launcher tune): {what}")


def _find(settings: Settings, planned: Planned) -> Tuned | None:
    """Return what was last found for the model on this machine, with this engine if anything was."""
    located = planned.located
    if located is None or planned.capabilities is None:
        return None
    rig, engine = rig_of(planned.machine), _commit(planned)
    found = [
        each
        for each in read_json_lines(settings.tuned_file, parse_tuned)
        if each.subject.is_model(located.model) and is_same(each.subject.rig, rig)
    ]
    last = next((each for each in reversed(found) if each.subject.engine == engine), None)
    last = last or next(reversed(found), None)
    return last if last is not None and last.words else None


def _commit(planned: Planned) -> str | None:
    return None if planned.capabilities is None else planned.capabilities.version.commit
