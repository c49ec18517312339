"""Plan what fits instead of a command line that does not, as near to it as llama.cpp allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.commands.companions import REMOTE
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.command_line import Command
from launcher.engine.flags.help_text import Capabilities
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import EngineFailed, UsageError
from launcher.machine.machine import Machine
from launcher.models.located import Located
from launcher.plan.check.check import Check
from launcher.plan.check.configuration import Configuration
from launcher.plan.companions import Companions
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload
from launcher.simulate.simulations import Simulations

_PROJECTOR, _DRAFT = ("-mm", "-mmu"), ("-md", "-hfd")
COMPANION_NAMES = {"-mm": "the projector", "-md": "the draft model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """A plan that fits without the flags in `dropped`; `notes` are llama.cpp's refusals."""

    outcome: Plan | Shortfall | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_instead(
    configuration: Configuration,
    verdict: Check,
    located: Located,
    machine: Machine,
    oracle: Simulations,
    companions: Companions,
) -> Instead:
    """Plan the same workload on the devices that the command uses for the model.

    Where llama.cpp would not load that workload, the nearest one that it would.
    """
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
    refusals: list[str] = []
    for less, without in _companions_to_try(companions):
        outcome = _first_plan(offer, replace(task, companions=less), configuration, verdict, refusals)
        if outcome is not None:
            left_out = (f"what fits is without {' and '.join(_names(without))}",) if without else ()
            return Instead(
                outcome=outcome, dropped=without, notes=(*_new_refusals(refusals, verdict), *left_out)
            )
    return Instead(notes=_new_refusals(refusals, verdict))


def _companions_to_try(companions: Companions) -> Iterator[tuple[Companions, tuple[str, ...]]]:
    """Yield the companions, then without those that llama.cpp may refuse; each with the flags left out."""
    yield companions, ()
    if companions.projector is not None:
        yield replace(companions, projector=None), _PROJECTOR
    if companions.draft is not None:
        yield replace(companions, draft=None), _DRAFT
        if companions.projector is not None:
            yield replace(companions, projector=None, draft=None), (*_PROJECTOR, *_DRAFT)


def _first_plan(
    offer: Offer, task: Task, configuration: Configuration, verdict: Check, refusals: list[str]
) -> Plan | Shortfall | None:
    """Return the first workload's plan, else what the last one lacks; None if llama.cpp loads none."""
    outcome: Plan | Shortfall | None = None
    for workload in _workloads(configuration, verdict):
        try:
            outcome = plan_one(offer, replace(task, workload=workload))
        except UsageError as error:
            refusals.append(error.message)  # the next workload may do
        except EngineFailed as error:
            refusals.append(error.message)
            return None
        if isinstance(outcome, Plan):
            break
        if outcome is not None and (workload.ctx_size is None or configuration.ctx_size):
            break
    return outcome


def _names(flags: Sequence[str]) -> tuple[str, ...]:
    return tuple(COMPANION_NAMES[flag] for flag in flags if flag in COMPANION_NAMES)


def _new_refusals(refusals: Sequence[str], verdict: Check) -> tuple[str, ...]:
    return tuple(text for text in dict.fromkeys(refusals) if text != verdict.refusal)


def _workloads(configuration: Configuration, verdict: Check) -> Iterator[Workload]:
    """Yield the workload of the command, then changed where llama.cpp may refuse it."""
    given = Workload(
        ctx_size=min(verdict.pool, verdict.slot_ctx_size * configuration.n_parallel),
        n_parallel=configuration.n_parallel,
        cache_type_k=configuration.cache_type_k,
        cache_type_v=configuration.cache_type_v,
        batch_size=configuration.batch_size,
        ubatch_size=configuration.ubatch_size,
        flash_attn=configuration.flash_attn,
        embedding=configuration.embedding,
        pooling=configuration.pooling,
        op_offload=configuration.op_offload,
        cache_ram_bytes=configuration.cache_ram_bytes if configuration.cache_ram_given else None,
        rope=configuration.rope,
    )
    yield given
    if not configuration.ctx_size:  # any context that fits will do
        yield replace(given, ctx_size=None)
    # equal cache types, and flash attention as it likes: what llama.cpp takes where it refuses others
    k, v = configuration.cache_type_k, configuration.cache_type_v
    both = v if k is CacheType.F16 else k
    yield replace(given, cache_type_k=both, cache_type_v=both)
    yield replace(given, flash_attn=FlashAttention.AUTO)
    yield replace(given, cache_type_k=both, cache_type_v=both, flash_attn=FlashAttention.AUTO)


def argv_instead(
    command: Command, instead: Instead, located: Located, known: Capabilities | None
) -> tuple[str, ...]:
    """Compile the plan, with the command's own words for everything that is not memory; empty without one."""
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
        return server_argv(plan, serving, program=command.program, capabilities=known, user_flags=user_flags)

    try:
        argv = compiled(tuple(kept))
    except UsageError:  # one of them is launcher's own business, or would not go with the plan
        argv = compiled(())
    if not command.model_words:
        return argv
    if (command.model or "").startswith(REMOTE) and "--offline" not in kept:
        # the plan's own --offline: the model is fetched by the line
        argv = tuple(word for word in argv if word != "--offline")
    at = argv.index(serving.model_path)
    return (*argv[: at - 1], *command.model_words, *argv[at + 1 :])
