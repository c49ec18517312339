"""The story, top to bottom: find the engine, see the machine, read the model, plan, pull, start.

Everything is wired here, and nothing is decided here: `plan` decides, the edges act.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher.commands import plan as planning
from launcher.commands.claims import claim, claim_rows, less_promised
from launcher.commands.engine import Confirm
from launcher.commands.lock import read_lock
from launcher.commands.plan import Planned, PlanRequest, _wanted, fitting, plan_model
from launcher.commands.probe import MachineChoice, machine_for
from launcher.commands.pull import fetch_all_of
from launcher.commands.retry import Case, Consent, bring_up_or_save
from launcher.commands.start import Upping, UpRequest, _engine_while, _looked_up, serving_of, start_planned
from launcher.commands.up_locked import _up_locked
from launcher.deployment import claims
from launcher.deployment.address import check_exposure
from launcher.deployment.ports import free_port
from launcher.deployment.record import Deployment
from launcher.engine.environment import config_files, engine_env
from launcher.engine.find import Engine
from launcher.engine.flags.user_flags import uncounted_notes
from launcher.errors import DoesNotFit
from launcher.machine.machine import Machine
from launcher.models.catalogue import Sources, resolve, sources_of
from launcher.models.located import HubFiles, Located
from launcher.plan.plan import Plan
from launcher.progress import OnProgress
from launcher.system.settings import Settings, read_settings
from launcher.units import format_bytes


def rehearse(request: UpRequest, on_progress: OnProgress) -> Planned:
    """What `up` would start, command line and address included; where no port is given, one that is free now."""
    check_exposure(request.host, request.api_key_file)
    os.environ.update(request.env)
    planned = plan_model(request.plan, on_progress)
    if planned.plan is None or planned.located is None:
        return planned
    serving = serving_of(
        request,
        request.port or free_port(request.host),
        planned.target.model_id,
        planning.path_to_be(planned.located),
    )
    return replace(planned, argv=planning.printed_argv(planned, planned.plan, serving))


def up(
    request: UpRequest,
    confirm: Confirm,
    on_progress: OnProgress,
    *,
    keep_up: bool = True,
    consent: Consent = lambda _question: False,
) -> Deployment:
    """Plan, pull, start, and return once the model has produced a token; a running one is returned as it is.

    `keep_up` has a server that dies later started again; `consent` is asked before a context is shortened. Raises
    DoesNotFit, and what its parts raise; afterwards nothing runs that did not run before.
    """
    os.environ.update(request.env)  # a device that a variable hides is hidden from the plan too
    settings = read_settings()
    confirm = functools.cache(confirm)  # nothing is asked twice
    if request.locked is not None:
        lock = read_lock(request.locked)
        return _up_locked(request, lock, settings, confirm, on_progress, keep_up=keep_up)
    sources = sources_of(settings, offline=request.plan.offline)
    target = resolve(request.plan.ref, request.plan.quant, sources)
    name, asked, running = _looked_up(request, settings, target.model_id)
    if running is not None:
        return running

    def without_engine(watch: OnProgress) -> tuple[Located, ...]:
        machine = machine_for(MachineChoice(), None, settings)
        return _wanted(planning.make(request.plan, settings, None, machine, watch, sources))

    again = partial(_pull_command, request.plan)
    engine = _engine_while(without_engine, again, request, settings, sources, confirm, on_progress)
    key = claims.claim_key(settings.deployments_dir, name)
    try:
        machine, planned = _plan_and_claim(request, name, engine, settings, sources, on_progress)
        plan, located = fitting(planned)
        paths, *beside = fetch_all_of(_wanted(planned), sources, confirm, on_progress, again(located))
        brought = tuple(one[0] for one in beside)
        planned = planning.started_with(planned, brought)
        found = planned.capabilities
        upping = Upping(request, name, asked, paths[0], engine, machine, found, keep_up, brought)
        case = _case(upping, planned, plan, located, settings, on_progress)
        return bring_up_or_save(case, on_progress, consent)
    except BaseException:
        claims.drop_claim(settings.claims_dir, key)
        raise


def _case(
    upping: Upping,
    planned: Planned,
    plan: Plan,
    located: Located,
    settings: Settings,
    on_progress: OnProgress,
) -> Case:
    """This plan, and what a second attempt would be made of."""
    return Case(
        plan=plan,
        machine=upping.machine,
        workload=planning.pinned(planned, plan),
        replan=partial(planning.replan, planned, plan.quant, located, settings),
        start=partial(start_planned, upping, planned, settings, on_progress),
        history=settings.history_file,
        engine=planned.capabilities.sha256 if planned.capabilities else None,
        retry=upping.request.retry,
    )


def _plan_and_claim(
    request: UpRequest,
    name: str,
    engine: Engine,
    settings: Settings,
    sources: Sources,
    on_progress: OnProgress,
) -> tuple[Machine, Planned]:
    """The machine with what nobody was promised, and the plan for it, whose memory is claimed. Raises DoesNotFit."""
    key = claims.claim_key(settings.deployments_dir, name)
    with claims.hold_planning_lock(settings.claims_dir):
        probed = machine_for(MachineChoice(), engine, settings)
        others = claims.read_claims(settings.claims_dir, but_not=key)
        machine = less_promised(
            probed, claims.reserved_bytes(others)
        )  # what others were promised is not free
        planned = planning.make(request.plan, settings, engine, machine, on_progress, sources)
        plan, _ = _fitting(planned, others)
        claim(settings.claims_dir, key, name, claim_rows(plan, machine), os.getpid())
    return machine, planned


def _pull_command(request: PlanRequest, located: Located) -> tuple[str, ...]:
    """What pulls these files: a repo's by the quant that was chosen, others by what was typed."""
    if isinstance(located.files, HubFiles):
        ref = (located.model.model_id,)
    else:
        ref = (request.ref, *(("--quant", request.quant) if request.quant else ()))
    return ("launcher", "pull", *ref, *(("--", *request.flags) if request.flags else ()))


def _fitting(planned: Planned, others: tuple[claims.Claim, ...]) -> tuple[Plan, Located]:
    """The plan and its files. Raises DoesNotFit; who else was promised memory is the first to look at."""
    try:
        return fitting(planned)
    except DoesNotFit as error:
        promised = {claim.name: sum(claims.reserved_bytes((claim,)).values()) for claim in others}
        largest = max(promised, key=lambda name: promised[name], default=None)
        if largest is not None and promised[largest]:
            taken = f"it was promised {format_bytes(promised[largest])}"
            error.hint = f"launcher stop {largest} ({taken}); or {error.hint}"
        raise


def notes(request: UpRequest) -> tuple[str, ...]:
    """What a user should know although nothing is wrong: what is dropped, what applies silently, what is not
    counted."""
    env, dropped = engine_env(os.environ, dict(request.env))
    said = [
        f"{name} is not passed on: it would change llama-server silently (-e {name}=… passes it)"
        for name in dropped
    ]
    said += [
        f"{path} is there, and llama-server takes from it what this command does not set"
        for path in config_files(env)
    ]
    return (*said, *_exposed_keys(request.api_key_file), *uncounted_notes(request.plan.flags))


def _exposed_keys(path: Path | None) -> tuple[str, ...]:
    """A key file that others can read is no secret; llama-server reads it, argv never holds it."""
    if path is None or not path.exists() or not path.stat().st_mode & 0o077:
        return ()
    return (f"{path} can be read by other users (chmod 600 {path})",)
