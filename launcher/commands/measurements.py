"""What was measured of models on this machine: keep it, and use it where they are planned or checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.planned import Planned
from launcher.engine.flags.bench_argv import speed_words
from launcher.errors import TryAgain
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.machine.rig import is_same, rig_of
from launcher.plan.forecast.benched import Benched, benched_json, parse_benched
from launcher.plan.forecast.core_rate import core_rate_of
from launcher.plan.forecast.measured import Like, as_measured, base_of, basis_of, ratios_of
from launcher.plan.forecast.subject import Subject, family_of
from launcher.plan.forecast.turn import forecast_turn
from launcher.plan.placement.pace import laws_of, used_share
from launcher.plan.plan import Plan
from launcher.system.json_lines import append_json, last_changed, read_json_lines
from launcher.system.settings import Settings


def keep_measurement(here: Here, benched: Benched) -> None:
    """Append a measurement to what is kept. Raises TryAgain."""
    keep_found(here.settings.bench_file, benched_json(benched))


def keep_found(file: Path, document: Mapping[str, object]) -> None:
    """Append what was measured or tuned. Raises TryAgain."""
    try:
        append_json(file, document)
    except OSError as error:
        raise TryAgain(f"{file} cannot be written: {error.strerror}", hint="launcher doctor") from error


def read_measurements(settings: Settings) -> tuple[Benched, ...]:
    """Return all that is kept and can be read, oldest first."""
    return _parsed(settings.bench_file, last_changed(settings.bench_file))


@functools.lru_cache(maxsize=2)  # `recommend` asks for every model
def _parsed(file: Path, _changed: tuple[tuple[int, int], ...]) -> tuple[Benched, ...]:
    return tuple(read_json_lines(file, parse_benched))


def subject_of(plan: Plan, model: ModelFile, machine: Machine, engine: str) -> Subject:
    """Say what is measured today; `engine` is its commit."""
    return Subject(
        date=datetime.now(UTC).date().isoformat(),
        model_id=plan.model_id,
        family=family_of(model),
        quant=plan.quant,
        size_bytes=model.size_bytes,
        engine=engine,
        rig=rig_of(machine),
    )


def for_model(settings: Settings, machine: Machine, model: ModelFile, engine: str | None) -> Machine:
    """Return the machine as this model meets it, by what was measured; engine None: with any."""
    share = used_share(read_architecture(model.metadata, model.tensors))
    machine = replace(machine, core_rate=core_rate_of(model.tensors, share, machine.core_rates))
    like = Like(rig=rig_of(machine), family=family_of(model), basis=basis_of(machine), engine=engine)
    ratios = ratios_of(read_measurements(settings), like)
    return replace(machine, speed_ratios=ratios) if ratios else machine


def last_measured(
    settings: Settings,
    machine: Machine,
    model: ModelFile,
    line: Sequence[str],
    engine: str | None = None,
    *,
    tests: Callable[[Benched], bool] = lambda _benched: True,
) -> Benched | None:
    """Return the latest measurement of a command line on this machine, by this engine or any.

    `tests` tells if what was measured is what is wanted.
    """
    rig, words = rig_of(machine), speed_words(line[1:])
    return next(
        (
            each
            for each in reversed(read_measurements(settings))
            if is_same(each.subject.rig, rig)
            and each.is_of(model, words)
            and engine in {None, each.subject.engine}
            and tests(each)
        ),
        None,
    )


def put_measured_speed(settings: Settings, planned: Planned, plan: Plan) -> Planned:
    """Put what `bench` measured of exactly this plan in the place of its forecast."""
    located, stages, forecast = planned.located, planned.choice.stages, plan.forecast
    known = planned.capabilities
    if located is None or forecast is None or known is None:
        return planned
    commit = known.version.commit
    found = last_measured(settings, planned.machine, located.model, planned.argv, commit)
    if found is None:
        return planned
    laws = laws_of(plan.dialect)
    base = base_of(stages, plan.n_tokens, laws)
    unscaled = forecast_turn(stages, forecast.turn, plan.n_tokens, laws=laws)
    now = as_measured(unscaled, base, found)
    why = (
        f"measured on {found.subject.date} (launcher bench): {now.decode.mid:.1f} tokens/s and "
        f"{now.turn_seconds.mid:.0f} s for that turn, in place of the prediction"
    )
    changed = replace(plan, forecast=now, reasons=(*plan.reasons, why))
    return replace(planned, choice=replace(planned.choice, plan=changed))
