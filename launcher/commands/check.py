"""A pasted llama-server command line, checked: read it, read the model's headers, simulate it, and where it does not
fit, plan what does. Wiring only, as in `launch`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.companions import REMOTE, find_companions, open_companions
from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.commands.probe import MachineChoice, look_once, probe
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.command_line import Command, arities_of, read_command
from launcher.engine.flags.help_text import Capabilities
from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.flags.user_flags import split_flags
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.machine.machine import Machine
from launcher.models.catalogue import Target
from launcher.models.located import Located
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.as_json import plan_json, shortfall_json
from launcher.plan.check.as_json import check_json
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.check.configuration import Configuration, visible_devices
from launcher.plan.companions import Companions
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload
from launcher.simulate.simulations import Simulations
from launcher.system.settings import expand_home

_PROJECTOR, _DRAFT = ("-mm", "-mmu"), ("-md", "-hfd")
_BESIDE = {"-mm": "the projector", "-md": "the draft model"}
_ANOTHER_WAY = "launcher check REF -- names the model another way: user/repo:QUANT, an https URL, a path"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """`words` are the command line; `ref` stands for the model it names, which may be on another machine."""

    words: tuple[str, ...]
    ref: str | None = None
    machine: MachineChoice = MachineChoice()
    engine: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The command as read, the verdict, and where it does not fit, the planner's answer to the same wish with its
    command line. `notes` are what a user should know beside the verdict. `refused` says why this llama-server, called
    `engine`, would not start with the line at all; `corrected` is the line that it would take, empty where that is the one
    that was given."""

    command: Command
    verdict: Check
    notes: tuple[str, ...]
    instead: Plan | Shortfall | None
    argv: tuple[str, ...]
    engine: str
    corrected: tuple[str, ...]

    @property
    def starts(self) -> bool:
        """Whether llama-server takes the line; whether it fits is another question."""
        return not self.command.refused

    @property
    def refused(self) -> tuple[str, ...]:
        return self.command.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instead:
    """What fits, without the flags in `dropped`; `notes` say what llama.cpp would not load of what was asked."""

    outcome: Plan | Shortfall | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_command(here: Here, request: CheckRequest) -> Checked:
    """Will it fit. Raises UsageError for a command line that names no model, or that llama-server would not take."""
    settings, look = here.settings, look_once(here)
    engine = engine_or_none(here, request.engine, look)
    found = read_capabilities(engine, settings.cache_dir) if engine else None
    command = read_command(request.words, arities_of(found.options) if found else PINNED_ARITIES)
    ref = request.ref or command.model
    if ref is None:
        raise UsageError(
            "the command line names no model", hint="add -m FILE or -hf user/repo:QUANT, or give a REF"
        )
    machine = probe(here, request.machine, engine, look)
    machine = replace(machine, devices=visible_devices(machine.devices, dict(command.variables)))
    target = _inspect(here, ref)
    located = target.candidates[0].open(here.on_progress)
    with (
        _companions(here, command.others, engine, machine) as (beside, not_counted),
        Simulations(located, engine, settings, machine) as oracle,
    ):
        verdict = check_configuration(
            command.configuration, located.model, machine, oracle, oracle.model, beside
        )
        instead = _Instead()
        if not verdict.fits:
            instead = _instead(command.configuration, verdict, located, machine, oracle, beside)
    notes = (*command.notes, *not_counted, *_choice(target), *instead.notes)
    argv = _argv(command, instead, located, found)
    return Checked(
        command=command,
        verdict=verdict,
        notes=notes,
        instead=instead.outcome,
        argv=tuple(map(strip_word_secrets, argv)),
        engine=f"llama-server {(found.version.commit if found else None) or LLAMA_CPP.commit}",
        corrected=(command.program, *map(strip_word_secrets, command.corrected)) if command.refused else (),
    )


def check_document(checked: Checked) -> dict[str, Any]:
    """The verdict as versioned JSON; `instead` is the document of `launcher plan` for what fits."""
    instead = checked.instead
    document: dict[str, Any] | None = None
    if isinstance(instead, Plan):
        document = plan_json(instead, argv=checked.argv)
    elif instead is not None:
        document = shortfall_json(instead)
    return {
        **check_json(checked.verdict),
        "starts": checked.starts,
        "refused": list(checked.refused),
        "corrected": list(checked.corrected) or None,
        "notes": [*checked.refused, *checked.notes],
        "instead": document,
    }


def _inspect(here: Here, ref: str) -> Target:
    try:
        return inspect(here, ref)
    except NotFound as error:
        if type(error) is NotFound:
            raise NotFound(error.message, hint=_ANOTHER_WAY) from error
        raise


@contextlib.contextmanager
def _companions(
    here: Here, flags: Sequence[str], engine: Engine | None, machine: Machine
) -> Iterator[tuple[Companions, tuple[str, ...]]]:
    """What these flags load beside the model, and what of it is not counted. A file that is not here may be on the machine that the command is for: it
    is named, not counted."""
    kept: list[str] = []
    notes: list[str] = []
    for name, words in split_flags(flags):
        path = expand_home(Path(words[-1])).absolute() if name in _BESIDE else None
        if path is None or path.exists():
            kept += words
        else:
            notes.append(f"{' '.join(words)}: {_BESIDE[name]} is not in the ledger: there is no file {path}")
    found = find_companions(kept, here.sources)
    with open_companions(found, engine, here.settings, machine) as opened:
        yield opened, (*notes, *found.notes)


def _choice(target: Target) -> tuple[str, ...]:
    if len(target.candidates) < 2:
        return ()
    return (
        f"checked with {target.candidates[0].quant}, the first of {len(target.candidates)} quants: REF:QUANT names another",
    )


def _instead(
    configuration: Configuration,
    verdict: Check,
    located: Located,
    machine: Machine,
    oracle: Simulations,
    companions: Companions,
) -> _Instead:
    """What the planner makes of the same wish, the model on the devices that the command uses for it; of the nearest wish
    that llama.cpp would load where it is none."""
    used = verdict.question.devices if configuration.devices else machine.devices
    used_first = (*used, *(device for device in machine.devices if device not in used))
    offer = Offer(
        quant=located.model.shards[0].name,
        model=located.model,
        simulator=ModelSimulator(oracle=oracle, path=oracle.model),
    )
    task = Task(
        machine=replace(machine, devices=used_first),
        workload=Workload(),
        limits=Limits(gpus=tuple(device.id for device in used)),
        companions=companions,
    )
    said: list[str] = []
    for less, without in _companions_to_try(companions):
        found = _first_plan(offer, replace(task, companions=less), configuration, verdict, said)
        if found is not None:
            left_out = (f"what fits is without {' and '.join(_names(without))}",) if without else ()
            return _Instead(outcome=found, dropped=without, notes=(*_unsaid(said, verdict), *left_out))
    return _Instead(notes=_unsaid(said, verdict))


def _companions_to_try(companions: Companions) -> Iterator[tuple[Companions, tuple[str, ...]]]:
    """As asked, then without what llama.cpp may refuse to load, with the flags that go then."""
    yield companions, ()
    if companions.projector is not None:
        yield replace(companions, projector=None), _PROJECTOR
    if companions.draft is not None:
        yield replace(companions, draft=None), _DRAFT
        if companions.projector is not None:
            yield replace(companions, projector=None, draft=None), (*_PROJECTOR, *_DRAFT)


def _first_plan(
    offer: Offer, task: Task, configuration: Configuration, verdict: Check, said: list[str]
) -> Plan | Shortfall | None:
    """The first wish that can be planned, else what the last lacks; None where none is one that llama.cpp would load,
    which `said` then tells."""
    outcome: Plan | Shortfall | None = None
    for workload in _wishes(configuration, verdict):
        try:
            outcome = plan_one(offer, replace(task, workload=workload))
        except UsageError as error:
            said.append(error.message)
        except EngineFailed as error:
            said.append(error.message)
            return None
        if isinstance(outcome, Plan):
            break
        if outcome is not None and (workload.ctx_size is None or configuration.ctx_size):
            break
    return outcome


def _names(flags: Sequence[str]) -> tuple[str, ...]:
    return tuple(_BESIDE[flag] for flag in flags if flag in _BESIDE)


def _unsaid(said: Sequence[str], verdict: Check) -> tuple[str, ...]:
    return tuple(one for one in dict.fromkeys(said) if one != verdict.refusal)


def _wishes(configuration: Configuration, verdict: Check) -> Iterator[Workload]:
    """Context, slots, cache types and batches as asked; where no context was asked for, any that fits, too. Then what
    llama.cpp takes where it refuses those: equal cache types, flash attention as it likes."""
    asked = Workload(
        ctx_size=min(verdict.pool, verdict.slot_ctx_size * configuration.n_parallel),
        n_parallel=configuration.n_parallel,
        cache_type_k=configuration.cache_type_k,
        cache_type_v=configuration.cache_type_v,
        batch_size=configuration.batch_size,
        ubatch_size=configuration.ubatch_size,
        flash_attn=configuration.flash_attn,
        cache_ram_bytes=configuration.cache_ram_bytes if configuration.cache_ram_given else None,
        rope=configuration.rope,
    )
    yield asked
    if not configuration.ctx_size:
        yield replace(asked, ctx_size=None)
    k, v = configuration.cache_type_k, configuration.cache_type_v
    both = v if k is CacheType.F16 else k
    yield replace(asked, cache_type_k=both, cache_type_v=both)
    yield replace(asked, flash_attn=FlashAttention.AUTO)
    yield replace(asked, cache_type_k=both, cache_type_v=both, flash_attn=FlashAttention.AUTO)


def _argv(
    command: Command, instead: _Instead, located: Located, found: Capabilities | None
) -> tuple[str, ...]:
    """The plan's flags with the command's own words for everything that is not memory."""
    plan = instead.outcome
    if not isinstance(plan, Plan):
        return ()
    kept = [
        word for name, words in split_flags(command.others) if name not in instead.dropped for word in words
    ]
    address = dict(command.address)
    serving = Serving(
        host=address.get("--host", "127.0.0.1"),
        port=int(address.get("--port", "8080")),
        model_id=address.get("-a", address.get("--alias", located.model.model_id)),
        model_path=located.model.shards[0].name,
    )

    def compiled(user_flags: tuple[str, ...]) -> tuple[str, ...]:
        return server_argv(plan, serving, program=command.program, capabilities=found, user_flags=user_flags)

    try:
        argv = compiled(tuple(kept))
    except UsageError:  # one of them is launcher's own business, or would not go with the plan
        argv = compiled(())
    if not command.model_words:
        return argv
    if (command.model or "").startswith(REMOTE) and "--offline" not in kept:
        argv = tuple(
            word for word in argv if word != "--offline"
        )  # the plan's; the model is fetched by the line
    at = argv.index(serving.model_path)
    return (*argv[: at - 1], *command.model_words, *argv[at + 1 :])
