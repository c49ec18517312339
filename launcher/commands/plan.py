"""Plan a model: resolve it, look at the machine, have its quants searched, compile the winner's command line.

Only wiring: `plan.search.search` decides, `simulate.simulations` answers, `engine.flags.argv` compiles.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from launcher.commands.claims import unreserved_machine
from launcher.commands.companions import FoundCompanions, find_companions, measure_adapters, open_companions
from launcher.commands.engine import engine_or_none
from launcher.commands.engine_pin import describe_pin, with_pin
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.kind_flags import output_flags, plan_seeing
from launcher.commands.measurements import for_model, put_measured_speed
from launcher.commands.offers import open_offers, simulator_of, worth_opening
from launcher.commands.planned import Buy, Planned, PlanRequest, path_to_be, printed_argv, with_reasons
from launcher.commands.probe import look_once
from launcher.commands.tuned import plan_with_tuned
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.from_file import check_flags_from_file
from launcher.engine.flags.help_text import Capabilities
from launcher.engine.flags.rope_flags import read_rope
from launcher.engine.flags.user_flags import absorb_flags, carried_flags
from launcher.errors import BadGguf, UsageError
from launcher.machine.machine import Machine
from launcher.machine.peers import refuse_peers
from launcher.models.catalogue import Target
from launcher.models.located import Located
from launcher.models.profiles.modes import pick_mode
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.companions import refuse_beside_peers
from launcher.plan.modes import CacheType, Dialect, LazyMode
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.purchase import Purchase, purchases
from launcher.plan.search.search import plan_one, search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.simulate.simulations import Simulations
from launcher.units import parse_context

_IK_ESTIMATES = (
    "ik_llama.cpp cannot be simulated: the plan counts by formulas, with wide bands (±); "
    "its own load log is compared with the plan after it started"
)


def plan(here: Here, request: PlanRequest) -> Planned:
    """Plan a model for this machine, or for the one that the request names."""
    return plan_resolved(here, request, inspect(here, request.ref, request.quant))


def plan_resolved(here: Here, request: PlanRequest, target: Target) -> Planned:
    """Plan a model that is resolved already, as `plan` does."""
    request = with_pin(here, request, target)
    return plan_on(here, request, target, *_machine_and_engine(here, request))


def _machine_and_engine(here: Here, request: PlanRequest) -> tuple[Machine, Engine | None]:
    look = look_once(here)
    engine = engine_or_none(here, request.engine, look)
    machine = unreserved_machine(here, request.machine, engine, look)
    refuse_peers(machine, request.machine.name)
    return machine, engine


def plan_on(
    here: Here, request: PlanRequest, target: Target, machine: Machine, engine: Engine | None
) -> Planned:
    """Plan this model for this machine, simulated by this engine; estimated where there is none.

    A model embeds, reranks or sees if it is made for that. Settings that were tuned here are planned with.
    """
    target = opened_once(target)

    def again(request: PlanRequest) -> Planned:
        return _plan_on(here, request, target.of_quant(request.quant), machine, engine)

    try:
        located = worth_opening(target.candidates, machine)[0].open(here.on_progress)
    except BadGguf:  # the other quants may do
        return again(request)
    request = replace(request, flags=(*request.flags, *output_flags(located.model, request.flags)))
    request, planned = plan_seeing(request, located, target.profile, again)
    return plan_with_tuned(here.settings, request, planned, again)


def _plan_on(
    here: Here, request: PlanRequest, target: Target, machine: Machine, engine: Engine | None
) -> Planned:
    _check_mode(target, request)
    request = _read_flags(request, target)
    companions = find_companions(request.flags, here.sources)
    known = read_capabilities(engine, here.settings.cache_dir) if engine else None
    _refuse_companions(companions, known)
    with ExitStack() as stack:
        offers = open_offers(here, target, machine, (engine, known.dialect if known else None), stack)
        model, commit = offers.opened[0][1].model, known.version.commit if known else None
        machine = for_model(here.settings, machine, model, commit)
        task = Task(
            machine=machine,
            workload=_as_it_loads(request.workload, known),
            limits=request.limits,
            default_ctx=_default_ctx(target),
            preferred_ctx=_preferred_ctx(here),
            companions=stack.enter_context(open_companions(companions, engine, here.settings, machine)),
        )
        refuse_beside_peers(task.companions, machine.devices)
        choice = search(offers.offers, task)
        bought = _purchases(offers.offers, task, choice, request.buy)
    chosen = offers.located_of(choice.plan)
    notes = (
        *companions.notes,
        *_brought(companions),
        *describe_pin(engine, request.pinned_by),
        *_other_build(engine, known),
    )
    choice = replace(choice, rejected=(*choice.rejected, *offers.refused))
    planned = Planned(
        target=target,
        machine=machine,
        engine=engine,
        capabilities=known,
        request=request,
        choice=choice,
        located=chosen,
        companions=companions,
        argv=(),
        purchases=bought,
    )
    if choice.plan is None or chosen is None:
        return planned
    planned = with_reasons(planned, *notes)
    serving = Serving(host="127.0.0.1", port=8080, model_id=target.model_id, model_path=path_to_be(chosen))
    planned = replace(planned, argv=printed_argv(planned, choice.plan, serving))
    return put_measured_speed(here.settings, planned, choice.plan)


def _purchases(offers: list[Offer], task: Task, choice: Choice, buy: Buy) -> tuple[Purchase, ...]:
    if buy is Buy.NOT_ASKED:
        return ()
    by_figures = [replace(offer, simulator=None) for offer in offers]
    return purchases(offers if buy is Buy.SIMULATED else by_figures, task, choice)


def replan(
    here: Here, planned: Planned, quant: str, located: Located, machine: Machine, workload: Workload
) -> Plan | Shortfall:
    """Plan one quant again, for a machine or workload that changed."""
    # no search for a cache type: F16 where none was asked for
    if workload.cache_type_k is None and workload.cache_type_v is None:
        workload = replace(workload, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    with (
        open_companions(planned.companions, planned.engine, here.settings, machine) as companions,
        Simulations(located, planned.engine, here.settings, machine) as oracle,
    ):
        task = Task(
            machine=machine,
            workload=_as_it_loads(workload, planned.capabilities),
            limits=planned.request.limits,
            default_ctx=_default_ctx(planned.target),
            preferred_ctx=_preferred_ctx(here),
            companions=companions,
        )
        dialect = planned.capabilities.dialect if planned.capabilities else None
        simulator = simulator_of(oracle, dialect)
        offer = Offer(quant=quant, model=located.model, simulator=simulator, notes=located.notes)
        outcome = plan_one(offer, task)
    if isinstance(outcome, Plan):
        return replace(outcome, reasons=(*outcome.reasons, *planned.companions.notes))
    return outcome


def _read_flags(request: PlanRequest, target: Target) -> PlanRequest:
    """Move llama-server's flags, typed or the profile's, into the workload where it knows them."""
    carried = target.profile.flags if target.profile else ()
    if target.profile is not None:
        check_flags_from_file(carried, f"the profile {target.profile.name}")
    flags = (*carried_flags(carried, request.flags, request.workload), *request.flags)
    workload, flags = absorb_flags(flags, request.workload)
    workload = replace(workload, adapters=measure_adapters(flags), rope=read_rope(flags))
    return replace(request, workload=workload, flags=flags)


def _as_it_loads(workload: Workload, known: Capabilities | None) -> Workload:
    """Return the workload as this engine loads it: one without --lazy-mode loads every tensor."""
    if known is None:
        return workload
    workload = replace(workload, dialect=known.dialect)
    if known.has("--lazy-mode") or workload.lazy_mode is LazyMode.ON:
        return workload  # ON: refused when the command line is compiled
    return replace(workload, lazy_mode=LazyMode.OFF)


def _refuse_companions(companions: FoundCompanions, known: Capabilities | None) -> None:
    asked = companions.request
    beside = asked.draft is not None or asked.projector is not None or bool(asked.spec_types)
    if known is not None and known.dialect is Dialect.IK and beside:
        raise UsageError(
            "what a draft model or a projector takes beside a model of ik_llama.cpp is not known",
            hint="leave --engine out",
        )


def _check_mode(target: Target, request: PlanRequest) -> None:
    if request.mode is None:
        return
    if target.profile is None:
        raise UsageError(
            f"--mode {request.mode}: {strip_word_secrets(request.ref)} has no profile, "
            "and modes are a profile's",
            hint="leave --mode out",
        )
    pick_mode(target.profile, request.mode)


def _default_ctx(target: Target) -> int | None:
    return target.profile.context.default if target.profile else None


def _preferred_ctx(here: Here) -> int | None:
    context = here.settings.defaults.context
    return None if context is None else parse_context(str(context))


def _brought(companions: FoundCompanions) -> tuple[str, ...]:
    # the printed line cannot name paths of this machine, and what is started does
    return tuple(
        f"{remote.what} {strip_word_secrets(remote.ref)}: "
        f"`up` brings {remote.file.model.shards[0].name} here, "
        "verified, and starts llama-server with its path; the command line has llama-server fetch it"
        f"{_left_out(remote.ref)}"
        for remote in companions.remote
        if isinstance(remote.file, Located)
    )


def _left_out(ref: str) -> str:
    return (
        ""
        if strip_word_secrets(ref) == ref
        else ", once the secrets of the URL, which are not shown, are put back"
    )


def _other_build(engine: Engine | None, known: Capabilities | None) -> tuple[str, ...]:
    if engine is None or known is None or engine.is_built_here:
        return ()
    if known.dialect is Dialect.IK:
        return (_IK_ESTIMATES,)
    # another one simulates: named, so that a difference is no riddle
    build = f"{known.version.text}, commit {known.version.commit or 'unknown'}"
    return (f"the engine that runs is {build}; its own load log is compared with the plan after it started",)
