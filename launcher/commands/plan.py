"""Planning end to end: open the quants that come into question, have them searched, compile the winner's command line.

It only wires: `catalogue` says which quants, `plan.search.search` decides, `simulations` answers, `engine.flags.argv` compiles.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.claims import less_promised
from launcher.commands.companions import (
    Found,
    files_of,
    find_companions,
    measure_adapters,
    open_companions,
    shown_flags,
    with_files,
)
from launcher.commands.engine import engine_or_none
from launcher.commands.probe import MachineChoice, machine_for
from launcher.deployment import claims
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.help_text import Capabilities
from launcher.engine.flags.rope_flags import read_rope
from launcher.engine.flags.user_flags import absorb_flags, carried_flags
from launcher.errors import BadGguf, DoesNotFit, UsageError
from launcher.gguf.anatomy import dissect
from launcher.machine.machine import Machine, pinned_order
from launcher.models.catalogue import Candidate, Sources, Target, resolve, sources_of
from launcher.models.fetch import bytes_to_fetch
from launcher.models.located import LocalFiles, Located, UnreachableFiles
from launcher.models.profiles.profile import pick_mode, server_flags
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.amounts import SPEED
from launcher.plan.as_json import plan_json, shortfall_json
from launcher.plan.forecast.turn import Turn
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Alternative, Choice
from launcher.plan.search.purchase import Purchase, purchases
from launcher.plan.search.search import plan_one, search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload
from launcher.progress import OnProgress
from launcher.simulate.simulations import Simulations
from launcher.system.settings import Settings, read_settings

MOST_OPENED = 6
"""Quants of a repo whose headers are read for one plan: the largest that could fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What the user typed, parsed. `flags` are llama-server's own, from behind `--`."""

    ref: str
    quant: str | None = None
    workload: Workload = Workload()
    limits: Limits = Limits()
    machine: MachineChoice = MachineChoice()
    engine: Path | None = None
    flags: tuple[str, ...] = ()
    mode: str | None = None
    offline: bool = False
    buy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What came of a request: the choice, the chosen model with what is loaded beside it, and its command line (empty
    without a plan)."""

    target: Target
    machine: Machine
    engine: Engine | None
    capabilities: Capabilities | None
    request: PlanRequest
    choice: Choice
    located: Located | None
    beside: Found
    argv: tuple[str, ...]
    purchases: tuple[Purchase, ...] = ()

    @property
    def plan(self) -> Plan | None:
        return self.choice.plan


def make(
    request: PlanRequest,
    settings: Settings,
    engine: Engine | None,
    machine: Machine,
    on_progress: OnProgress,
    sources: Sources | None = None,
) -> Planned:
    """The wanted plan. Nothing fits: `choice.shortfall` says what is missing."""
    sources = sources or sources_of(settings, offline=request.offline)
    target = resolve(request.ref, request.quant, sources)
    _check_mode(target, request)
    carried = target.profile.flags if target.profile else ()
    flags = (*carried_flags(carried, request.flags, request.workload), *request.flags)
    workload, flags = absorb_flags(flags, request.workload)
    workload = replace(workload, adapters=measure_adapters(flags), rope=read_rope(flags))
    request = replace(request, workload=workload, flags=flags)
    beside = find_companions(flags, sources)
    with ExitStack() as stack:
        opened: list[tuple[Offer, Located]] = []
        refused: list[tuple[Candidate, BadGguf]] = []
        for candidate in worth_opening(target.candidates, machine):
            try:
                located = candidate.open(on_progress)
                quant = candidate.quant or dissect(located.model.metadata, located.model.tensors).quant
            except BadGguf as error:  # a type that only a fork knows, or damage: the other quants may do
                refused.append((candidate, error))
                continue
            oracle = stack.enter_context(Simulations(located, engine, settings, machine))
            offer = Offer(
                quant=quant,
                model=located.model,
                simulator=ModelSimulator(oracle=oracle, path=oracle.model),
                fetch_bytes=bytes_to_fetch(located, sources),
                notes=located.notes,
            )
            opened.append((offer, located))
        task = Task(
            machine=machine,
            workload=workload,
            limits=request.limits,
            default_ctx=target.profile.context.default if target.profile else None,
            companions=stack.enter_context(open_companions(beside, engine, settings, machine)),
        )
        if refused and not opened:
            raise refused[0][1]
        offers = [offer for offer, _ in opened]
        choice = search(offers, task)
        choice = replace(choice, rejected=(*choice.rejected, *(_refused(one, why) for one, why in refused)))
        bought = purchases(offers, task, choice) if request.buy else ()
    known = read_capabilities(engine, settings.cache_dir) if engine else None
    if choice.plan is not None:
        said = (*choice.plan.reasons, *beside.notes, *_brought(beside), *_other_build(engine, known))
        choice = replace(choice, plan=replace(choice.plan, reasons=said))
    chosen = next((located for offer, located in opened if _is_of(choice.plan, offer)), None)
    planned = Planned(
        target=target,
        machine=machine,
        engine=engine,
        capabilities=known,
        request=request,
        choice=choice,
        located=chosen,
        beside=beside,
        argv=(),
        purchases=bought,
    )
    if choice.plan is None or chosen is None:
        return planned
    serving = Serving(host="127.0.0.1", port=8080, model_id=target.model_id, model_path=path_to_be(chosen))
    return replace(planned, argv=printed_argv(planned, choice.plan, serving))


def _check_mode(target: Target, request: PlanRequest) -> None:
    """Raises UsageError for a mode that this model does not have, before anything takes time."""
    if request.mode is None:
        return
    if target.profile is None:
        raise UsageError(
            f"--mode {request.mode}: {strip_word_secrets(request.ref)} has no profile, and modes are a profile's",
            hint="leave --mode out, or name the model by its profile: launcher profiles list",
        )
    pick_mode(target.profile, request.mode)


def _refused(candidate: Candidate, error: BadGguf) -> Alternative:
    """A quant whose headers llama.cpp would not take, as one that was not taken."""
    return Alternative(
        quant=candidate.quant,
        size_bytes=candidate.size_bytes or 0,
        cache_type="",
        ubatch_size=0,
        ctx_size=0,
        fits=False,
        reason=f"cannot be loaded: {error.message}" + (f" ({error.hint})" if error.hint else ""),
        flags=f"--quant {candidate.quant}",
    )


def worth_opening(candidates: tuple[Candidate, ...], machine: Machine) -> tuple[Candidate, ...]:
    """Of many quants those whose files could fit at all, or else the smallest; of few, all."""
    if len(candidates) <= MOST_OPENED or any(candidate.size_bytes is None for candidate in candidates):
        return candidates
    own = sum(device.total_bytes for device in machine.devices if not device.shares_host_memory)
    capacity = machine.ram_available_bytes + own
    fitting_ones = [one for one in candidates if (one.size_bytes or 0) <= capacity]
    if not fitting_ones:
        return (min(candidates, key=lambda one: one.size_bytes or 0),)
    return tuple(fitting_ones[:MOST_OPENED])


def compile_argv(planned: Planned, plan: Plan, serving: Serving) -> tuple[str, ...]:
    """The plan in the engine's dialect. Raises UsageError where it cannot be said there."""
    profile, request = planned.target.profile, planned.request
    return server_argv(
        plan,
        serving,
        program=str(planned.engine.path) if planned.engine else "llama-server",
        capabilities=planned.capabilities,
        profile_flags=server_flags(profile, request.mode) if profile else (),
        user_flags=request.flags,
    )


def printed_argv(planned: Planned, plan: Plan, serving: Serving) -> tuple[str, ...]:
    """The same to be printed and kept. What is started has paths where this has the URLs of companions."""
    request = replace(planned.request, flags=shown_flags(planned.request.flags))
    return compile_argv(replace(planned, request=request), plan, serving)


def started_with(planned: Planned, paths: Sequence[Path]) -> Planned:
    """The same plan with the files that were brought here for `beside.remote`, first shard each."""
    flags = with_files(planned.request.flags, planned.beside.remote, paths)
    return replace(planned, request=replace(planned.request, flags=flags))


def pinned(planned: Planned, plan: Plan) -> Workload:
    """The wish with what the search chose for this plan: planning it again changes what it must, nothing else."""
    workload = planned.request.workload
    plain = plan.cache_type_k is CacheType.F16 and plan.cache_type_v is CacheType.F16
    return replace(
        workload,
        ctx_size=workload.ctx_size,
        batch_size=plan.batch_size,
        ubatch_size=plan.ubatch_size,
        cache_type_k=workload.cache_type_k if plain else plan.cache_type_k,
        cache_type_v=workload.cache_type_v if plain else plan.cache_type_v,
    )


def replan(
    planned: Planned, quant: str, located: Located, settings: Settings, machine: Machine, workload: Workload
) -> Plan | Shortfall:
    """This quant on this machine, planned and confirmed by the simulator; F16 caches where none were asked for."""
    profile = planned.target.profile
    if workload.cache_type_k is None and workload.cache_type_v is None:
        workload = replace(workload, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    with (
        open_companions(planned.beside, planned.engine, settings, machine) as companions,
        Simulations(located, planned.engine, settings, machine) as oracle,
    ):
        task = Task(
            machine=machine,
            workload=workload,
            limits=planned.request.limits,
            default_ctx=profile.context.default if profile else None,
            companions=companions,
        )
        offer = Offer(
            quant=quant,
            model=located.model,
            simulator=ModelSimulator(oracle=oracle, path=oracle.model),
            notes=located.notes,
        )
        outcome = plan_one(offer, task)
    if isinstance(outcome, Plan):
        return replace(outcome, reasons=(*outcome.reasons, *planned.beside.notes))
    return outcome


def fitting(planned: Planned) -> tuple[Plan, Located]:
    """The plan and its model. Raises DoesNotFit when there is none."""
    if planned.plan is not None and planned.located is not None:
        return planned.plan, planned.located
    short = planned.choice.shortfall
    if short is None:
        raise DoesNotFit("there is no plan")
    hint = _shortfall_hint(planned.request.ref, short)
    if short.where == SPEED:
        raise DoesNotFit(f"{short.model_id}: {short.reasons[0]}", hint=hint)
    n_quants = len(planned.choice.rejected) + 1
    tried = "" if n_quants == 1 else f", of {n_quants} quants the one that lacks least,"
    raise DoesNotFit(f"{short.model_id} {short.quant}{tried} does not fit: {short.lack}", hint=hint)


def document(planned: Planned) -> dict[str, Any]:
    """The plan, or what is missing, as its versioned JSON."""
    choice = planned.choice
    if choice.plan is not None:
        env = dict(pinned_order(planned.machine.devices)) if choice.plan.placement.devices else {}
        return plan_json(choice.plan, argv=planned.argv, env=env, choice=choice) | _bought(planned)
    if choice.shortfall is None:
        raise DoesNotFit("there is no plan")
    return shortfall_json(choice.shortfall, choice=choice) | _bought(planned)


def api_price(planned: Planned) -> str | None:
    """What the stated turn costs as a paid service, where the profile knows one."""
    profile = planned.target.profile
    if profile is None or profile.api is None:
        return None
    api, turn = profile.api, Turn()
    cached = (
        api.input_usd_per_mtok if api.cached_input_usd_per_mtok is None else api.cached_input_usd_per_mtok
    )
    usd = (
        turn.cached_tokens * cached
        + turn.prompt_tokens * api.input_usd_per_mtok
        + turn.reply_tokens * api.output_usd_per_mtok
    ) / 1e6
    return (
        f"{api.provider}'s API ({api.model_id}): ${api.input_usd_per_mtok:g} in and "
        f"${api.output_usd_per_mtok:g} out per million tokens, ${usd:.4f} for a turn of {turn} ({api.as_of})"
    )


def _bought(planned: Planned) -> dict[str, Any]:
    return {"purchases": [asdict(one) for one in planned.purchases], "api": api_price(planned)}


def _brought(beside: Found) -> tuple[str, ...]:
    """Where what is started is not what is printed: a line for elsewhere cannot name a path of this machine."""
    return tuple(
        f"{one.what} {strip_word_secrets(one.ref)}: `up` brings {one.found.model.shards[0].name} here, verified, and starts "
        f"llama-server with its path; the command line has llama-server fetch it{_left_out(one.ref)}"
        for one in beside.remote
        if isinstance(one.found, Located)
    )


def _left_out(ref: str) -> str:
    return (
        ""
        if strip_word_secrets(ref) == ref
        else ", once the secrets of the URL, which are not shown, are put back"
    )


def _other_build(engine: Engine | None, found: Capabilities | None) -> tuple[str, ...]:
    """Who simulates is not always who runs: named, so that a difference is not a riddle."""
    if engine is None or found is None or engine.build is not None:
        return ()
    build = f"{found.version.text}, commit {found.version.commit or 'unknown'}"
    return (f"the engine that runs is {build}; its own load log is compared with the plan after it started",)


def _is_of(plan: Plan | None, offer: Offer) -> bool:
    return plan is not None and (plan.quant, plan.source, plan.size_bytes) == (
        offer.quant,
        offer.model.source,
        offer.model.size_bytes,
    )


def path_to_be(located: Located) -> str:
    """The model's path where it is known before anything is fetched, else its name."""
    match located.files:
        case LocalFiles(paths=paths):
            return str(paths[0])
        case UnreachableFiles(file=file):
            return file
        case _:
            return located.model.shards[0].name


def _shortfall_hint(ref: str, shortfall: Shortfall) -> str:
    """`ref` as it was typed: the model's id may name no model."""
    return f"launcher plan {shlex.quote(strip_word_secrets(ref))} {shortfall.hints[0] if shortfall.hints else '--buy'}"


def plan_model(request: PlanRequest, on_progress: OnProgress) -> Planned:
    """The wanted quant of those that fit, placed. Nothing fits: `plan` is None, and `choice` says why."""
    settings = read_settings()
    engine = engine_or_none(request.engine, settings)
    machine = machine_for(request.machine, engine, settings)
    if request.machine == MachineChoice():
        machine = less_promised(machine, claims.reserved_bytes(claims.read_claims(settings.claims_dir)))
    return make(request, settings, engine, machine, on_progress)


def locate_planned(
    ref: str, quant: str | None, flags: tuple[str, ...], on_progress: OnProgress
) -> tuple[Located, ...]:
    """The quant that is planned for this machine, and what these flags have it load besides."""
    return _wanted(plan_model(PlanRequest(ref=ref, quant=quant, flags=flags), on_progress))


def _wanted(planned: Planned) -> tuple[Located, ...]:
    """The plan's model, then what is to be brought here for it. Raises DoesNotFit, and why a companion cannot be had."""
    return (fitting(planned)[1], *files_of(planned.beside.remote))
