"""Check a pasted llama-server command line: read it, read the model's headers, simulate it.

Only wiring. What fits instead is `check_instead`'s to plan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.check_instead import COMPANION_NAMES, Instead, argv_instead, plan_instead
from launcher.commands.companions import find_companions, open_companions, with_repo_head, with_repo_projector
from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.commands.measurements import for_model, last_measured
from launcher.commands.probe import MachineChoice, look_once, probe
from launcher.engine.capabilities import read_capabilities
from launcher.engine.dialect import check_types
from launcher.engine.find import Engine
from launcher.engine.flags.command_line import Command, arities_of, read_command
from launcher.engine.flags.help_text import Capabilities
from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.flags.user_flags import split_flags
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import MAX_CPUS, Machine
from launcher.machine.peers import parse_peers
from launcher.models.catalogue import Target
from launcher.models.located import Located
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.as_json import forecast_json, plan_json, shortfall_json
from launcher.plan.check.as_json import check_json
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.check.pace import Point, forecast_check, stages_of_check
from launcher.plan.check.peers import devices_of_line
from launcher.plan.companions import Companions, refuse_beside_peers
from launcher.plan.forecast.turn import Forecast
from launcher.plan.modes import Dialect
from launcher.plan.placement.pace import laws_of
from launcher.plan.plan import Finding, Plan, Shortfall
from launcher.simulate.simulations import Simulations
from launcher.system.settings import expand_home

_ANOTHER_WAY = "name it as user/repo:QUANT, an https URL or a path: launcher check REF -- llama-server …"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """`words` are the command line; `ref` stands for the model it names, which may be on another machine."""

    words: tuple[str, ...]
    ref: str | None = None
    machine: MachineChoice = MachineChoice()
    peers: tuple[str, ...] = ()  # HOST:PORT=CARD, what the peers of `--rpc` have
    engine: Path | None = None
    at: Point | None = None  # where speeds are wanted
    from_disk: bool = False  # experts that RAM has no room for may be read from the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The verdict on a command line, and a plan for the same workload where it does not fit."""

    command: Command
    verdict: Check
    # what a user should know beside the verdict
    notes: tuple[str, ...]
    instead: Plan | Shortfall | None
    argv: tuple[str, ...]
    # the llama-server that the line is for
    engine: str
    # the line that this llama-server would take, empty where that is the given one
    corrected: tuple[str, ...]
    # None where it cannot be told
    forecast: Forecast | None = None

    @property
    def starts(self) -> bool:
        """llama-server takes the line; whether it fits is another question."""
        return not self.command.refused

    @property
    def refused(self) -> tuple[str, ...]:
        return self.command.refused

    @property
    def finding(self) -> Finding:
        return self.verdict.finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a line is checked with: an engine, what it is known to understand, and a machine."""

    engine: Engine | None
    known: Capabilities | None
    machine: Machine

    def read(self, words: Sequence[str]) -> Command:
        """Read a command line as this engine would. Raises UsageError for values that it refuses."""
        return read_command(words, arities_of(self.known.options) if self.known else PINNED_ARITIES)

    @property
    def engine_name(self) -> str:
        return f"llama-server {(self.known.version.commit if self.known else None) or LLAMA_CPP.commit}"


def open_bench(here: Here, request: CheckRequest) -> Bench:
    """Find the engine, and look at the machine."""
    look = look_once(here)
    engine = engine_or_none(here, request.engine, look)
    known = read_capabilities(engine, here.settings.cache_dir) if engine else None
    if known is not None and known.dialect is Dialect.IK and request.engine is None:
        engine = known = None  # it is what plans use here, and was not asked to check
    if known is not None and known.dialect is Dialect.IK:
        raise UsageError(
            "command lines are read as llama.cpp takes them, and this engine is ik_llama.cpp",
            hint="launcher plan REF --engine NAME makes one for it; to check without it, leave --engine out",
        )
    machine = probe(here, request.machine, engine, look)
    devices = (*machine.devices, *parse_peers(request.peers))
    return Bench(engine=engine, known=known, machine=replace(machine, devices=devices))


def check_command(here: Here, request: CheckRequest) -> Checked:
    """Check whether a command line fits, and plan what does where it does not.

    Raises UsageError for a line that names no model.
    """
    bench = open_bench(here, request)
    return check_line(here, bench, bench.read(request.words), request)


def check_line(here: Here, bench: Bench, command: Command, request: CheckRequest) -> Checked:
    """Check a line that has been read."""
    with _open_line(here, bench, command, request.ref) as line:
        verdict = line.check(command, from_disk=request.from_disk)
        instead = Instead()
        if not verdict.fits:
            instead = plan_instead(
                command.configuration, verdict, line.located, line.machine, line.oracle, line.companions
            )
    deep = _too_deep(request.at, verdict)
    argv = argv_instead(command, instead, line.located, bench.known)
    return Checked(
        command=command,
        verdict=verdict,
        notes=(*command.notes, *line.notes, *instead.notes, *deep),
        instead=instead.outcome,
        argv=tuple(map(strip_word_secrets, argv)),
        engine=bench.engine_name,
        corrected=(command.program, *map(strip_word_secrets, command.corrected)) if command.refused else (),
        forecast=None if deep else _forecast(here, bench, line, command, verdict, request),
    )


def judge_line(here: Here, bench: Bench, command: Command) -> Check:
    """Return the verdict on a line alone, without what fits instead."""
    with _open_line(here, bench, command, None) as line:
        return line.check(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The model of a line, its companions and the machine, open for questions."""

    located: Located
    machine: Machine
    oracle: Simulations
    companions: Companions
    notes: tuple[str, ...]

    def check(self, command: Command, *, from_disk: bool = False) -> Check:
        model, path, companions = self.located.model, self.oracle.model, self.companions
        return check_configuration(
            command.configuration, model, self.machine, self.oracle, path, companions, from_disk=from_disk
        )


@contextlib.contextmanager
def _open_line(here: Here, bench: Bench, command: Command, ref: str | None) -> Iterator[_Line]:
    ref = ref or command.model
    if ref is None:
        raise UsageError(
            "the command line names no model", hint="add -m FILE or -hf user/repo:QUANT, or give a REF"
        )
    devices = devices_of_line(command.configuration, bench.machine.devices, dict(command.variables))
    machine = replace(bench.machine, devices=devices)
    target = _inspect(here, ref)
    located = target.candidates[0].open(here.on_progress)
    check_types(located.model.model_id, located.model.tensors, Dialect.LLAMA_CPP)
    with (
        _companions(here, command, bench.engine, machine) as (companions, not_counted),
        Simulations(located, bench.engine, here.settings, machine) as oracle,
    ):
        refuse_beside_peers(companions, machine.devices)
        yield _Line(
            located=located,
            machine=machine,
            oracle=oracle,
            companions=companions,
            notes=(*not_counted, *_choice(target)),
        )


def _forecast(
    here: Here, bench: Bench, line: _Line, command: Command, verdict: Check, request: CheckRequest
) -> Forecast | None:
    """Predict the line's speed, or say what was measured of it on this machine."""
    model, machine, settings = line.located.model, line.machine, here.settings
    commit = bench.known.version.commit if bench.known else None
    machine = for_model(settings, machine, model, commit)
    stages = stages_of_check(verdict, model, machine, threads=_threads(command.others))
    if command.dialect is not Dialect.LLAMA_CPP:  # nothing that was measured with this engine is of that one
        machine = replace(machine, speed_ratios=())
        return forecast_check(verdict, machine, stages, request.at, laws=laws_of(command.dialect))
    measured = last_measured(settings, machine, model, request.words, commit)
    return forecast_check(verdict, machine, stages, request.at, measured)


def _too_deep(at: Point | None, verdict: Check) -> tuple[str, ...]:
    """Say why there are no speeds for what no request of this line can hold."""
    if at is None or at.depth + at.prompt <= verdict.slot_ctx_size:
        return ()
    limit = verdict.slot_ctx_size
    return (f"no speeds: {at.prompt} tokens after {at.depth} are more than the {limit} of a request",)


def check_document(checked: Checked) -> dict[str, Any]:
    """Return the verdict as versioned JSON; `instead` is the document of `launcher plan` for what fits."""
    instead = checked.instead
    document: dict[str, Any] | None = None
    if isinstance(instead, Plan):
        document = plan_json(instead, argv=checked.argv)
    elif instead is not None:
        document = shortfall_json(instead)
    return {
        **check_json(checked.verdict),
        "forecast": forecast_json(checked.forecast),
        "starts": checked.starts,
        "refused": list(checked.refused),
        "corrected": list(checked.corrected) or None,
        "notes": [*checked.refused, *checked.notes],
        "instead": document,
    }


def _threads(flags: Sequence[str]) -> int | None:
    """Return the threads of a command line; None for llama-server's own choice."""
    words = [words for name, words in split_flags(flags) if name in {"-t", "--threads"}]
    number = words[-1][-1] if words else ""
    return int(number) if number.isascii() and number.isdigit() and 0 < int(number[:5]) <= MAX_CPUS else None


def _inspect(here: Here, ref: str) -> Target:
    try:
        return inspect(here, ref)
    except NotFound as error:
        if type(error) is NotFound:
            raise NotFound(error.message, hint=_ANOTHER_WAY) from error
        raise


@contextlib.contextmanager
def _companions(
    here: Here, command: Command, engine: Engine | None, machine: Machine
) -> Iterator[tuple[Companions, tuple[str, ...]]]:
    """Yield the companions of a command line, and a note for each that is not counted."""
    counted: list[str] = []
    missing: list[str] = []
    drafts = False
    for name, words in split_flags(command.others):
        path = expand_home(Path(words[-1])).absolute() if name in COMPANION_NAMES else None
        if path is None or path.exists():
            counted += words  # else it may be on the machine that the command is for
        else:
            missing.append(
                f"{' '.join(words)}: {COMPANION_NAMES[name]} is not in the ledger: there is no file {path}"
            )
            drafts |= name == "-md"
    found = find_companions(counted, here.sources)
    if not drafts:
        found = with_repo_head(found, counted, command.model, here.sources)
    if command.repo is not None:
        found = with_repo_projector(found, counted, command.repo, here.sources)
    with open_companions(found, engine, here.settings, machine) as opened:
        # where a file drafts, the model's own MTP blocks do not
        mtp = None if drafts else opened.mtp
        yield (
            replace(opened, mtp=mtp, uncounted=(*opened.uncounted, *missing)),
            (*missing, *found.notes),
        )


def _choice(target: Target) -> tuple[str, ...]:
    if len(target.candidates) < 2:
        return ()
    quants = f"{target.candidates[0].quant}, the first of {len(target.candidates)} quants"
    return (f"checked with {quants}: REF:QUANT names another",)
