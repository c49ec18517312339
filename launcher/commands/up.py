"""The story, top to bottom: find the engine, see the machine, read the model, plan, pull, start.

Everything is wired here, and nothing is decided here: `plan` decides, the edges act.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher import planning
from launcher.attempts import (
    Case,
    Consent,
    bring_up_or_save,
    by_memory,
    claim,
    claim_rows,
    less_promised,
)
from launcher.catalogue import Sources, resolve, sources_of
from launcher.companions import files_of
from launcher.engine import claims
from launcher.engine.address import check_exposure
from launcher.engine.capabilities import capabilities
from launcher.engine.cause import MEMORY
from launcher.engine.client import read_api_key
from launcher.engine.deploy import already_up, attend
from launcher.engine.deployments import State, find, look
from launcher.engine.find import Engine
from launcher.engine.ports import free_port
from launcher.engine.process import config_files, engine_env
from launcher.engine.ready import LoadFailed
from launcher.engine.record import Deployment, check_name, deployment_name, is_name, plan_hash
from launcher.engine.takedown import take_down
from launcher.engine.wishes import uncounted
from launcher.errors import DoesNotFit, NotFound, UsageError
from launcher.hub.located import HubFiles, Located
from launcher.inventory import (
    Confirm,
    MachineChoice,
    build,
    engine_or_agreement,
    engine_or_none,
    machine_for,
)
from launcher.lock import Lock, check_engine, companions_of, locate, read_lock, with_brought
from launcher.machine import Machine
from launcher.plan.plan import Plan
from launcher.planning import Planned, PlanRequest, fitting
from launcher.progress import OnProgress
from launcher.pulling import fetch_all_of, pulling_meanwhile
from launcher.settings import Settings, read_settings
from launcher.start import Upping, UpRequest, What, asked_for, serving_of, start, start_planned
from launcher.units import format_bytes


def plan_model(request: PlanRequest, on_progress: OnProgress) -> Planned:
    """The wanted quant of those that fit, placed. Nothing fits: `plan` is None, and `choice` says why."""
    settings = read_settings()
    engine = engine_or_none(request.engine, settings)
    machine = machine_for(request.machine, engine, settings)
    if request.machine == MachineChoice():
        machine = less_promised(machine, claims.promised(claims.read(settings.claims_dir)))
    return planning.make(request, settings, engine, machine, on_progress)


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
    key = claims.key_of(settings.deployments_dir, name)
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
        claims.drop(settings.claims_dir, key)
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
    key = claims.key_of(settings.deployments_dir, name)
    with claims.planning(settings.claims_dir):
        probed = machine_for(MachineChoice(), engine, settings)
        others = claims.read(settings.claims_dir, but_not=key)
        machine = less_promised(probed, claims.promised(others))  # what others were promised is not free
        planned = planning.make(request.plan, settings, engine, machine, on_progress, sources)
        plan, _ = _fitting(planned, others)
        claim(settings.claims_dir, key, name, claim_rows(plan, machine), os.getpid())
    return machine, planned


def _up_locked(
    request: UpRequest,
    lock: Lock,
    settings: Settings,
    confirm: Confirm,
    on_progress: OnProgress,
    *,
    keep_up: bool,
) -> Deployment:
    """Start exactly what is locked, and keep it up. Nothing is planned, so nothing is planned again where memory runs
    out: the error says what would be."""
    sources = sources_of(settings)
    name, asked, running = _looked_up(request, settings, lock.model_id)
    if running is not None:
        return running
    again = ("launcher", "up", "--locked", str(lock.file))
    engine = _engine_while(
        lambda _: (locate(lock, sources), *files_of(companions_of(lock, sources))),
        lambda _: again,
        request,
        settings,
        sources,
        confirm,
        on_progress,
    )
    found = capabilities(engine, settings.cache_dir)
    check_engine(lock, found)
    located = locate(lock, sources)
    remote = companions_of(lock, sources)
    wanted = (located, *files_of(remote))
    paths, *beside = fetch_all_of(wanted, sources, confirm, on_progress, again)
    brought = tuple(one[0] for one in beside)
    lock = with_brought(lock, remote, brought, found)
    machine = machine_for(MachineChoice(), engine, settings)
    upping = Upping(request, name, asked, paths[0], engine, machine, found, keep_up, brought)
    return _start_locked(upping, lock, located.model.size_bytes, settings, on_progress)


def _start_locked(
    upping: Upping, lock: Lock, model_bytes: int, settings: Settings, on_progress: OnProgress
) -> Deployment:
    what = What(
        model_id=lock.model_id,
        model_bytes=model_bytes,
        document=lock.plan,
        rows=by_memory(lock.rows, upping.machine),
        compile=lock.compile,
    )
    key = claims.key_of(settings.deployments_dir, upping.name)
    claim(settings.claims_dir, key, upping.name, lock.rows, os.getpid())
    try:
        return start(upping, what, settings, on_progress, {})
    except BaseException as error:
        claims.drop(settings.claims_dir, key)
        if isinstance(error, LoadFailed) and error.cause.kind in MEMORY:
            error.hint = f"{lock.unlocked}: plans it anew for the memory that is free now; {lock.file} promises exactly this plan"
        raise


def _engine_while(
    locate: Callable[[OnProgress], tuple[Located, ...]],
    again: Callable[[Located], tuple[str, ...]],
    request: UpRequest,
    settings: Settings,
    sources: Sources,
    confirm: Confirm,
    on_progress: OnProgress,
) -> Engine:
    """The engine there is; else the one that is built now, while what `locate` finds is pulled."""
    engine = engine_or_agreement(request.plan.engine, settings, confirm)
    if engine is not None:
        return engine
    with pulling_meanwhile(locate, sources, confirm, on_progress, again):
        return build(None, None, settings, on_progress)


def _pull_command(request: PlanRequest, located: Located) -> tuple[str, ...]:
    """What pulls these files: a repo's by the quant that was chosen, others by what was typed."""
    if isinstance(located.files, HubFiles):
        ref = (located.model.model_id,)
    else:
        ref = (request.ref, *(("--quant", request.quant) if request.quant else ()))
    return ("launcher", "pull", *ref, *(("--", *request.flags) if request.flags else ()))


def _looked_up(request: UpRequest, settings: Settings, model_id: str) -> tuple[str, str, Deployment | None]:
    """The deployment's name, the hash of what is asked for, and the deployment if just that is up already. Raises
    UsageError for a name, an address or a key file that cannot be used."""
    name = check_name(request.name or deployment_name(model_id))
    check_exposure(request.host, request.api_key_file)
    read_api_key(request.api_key_file)
    asked = plan_hash(asked_for(request, settings))
    return name, asked, already_up(settings.deployments_dir, name, asked, request.port)


def _fitting(planned: Planned, others: tuple[claims.Claim, ...]) -> tuple[Plan, Located]:
    """The plan and its files. Raises DoesNotFit; who else was promised memory is the first to look at."""
    try:
        return fitting(planned)
    except DoesNotFit as error:
        promised = {claim.name: sum(claims.promised((claim,)).values()) for claim in others}
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
    return (*said, *_exposed_keys(request.api_key_file), *uncounted(request.plan.flags))


def _exposed_keys(path: Path | None) -> tuple[str, ...]:
    """A key file that others can read is no secret; llama-server reads it, argv never holds it."""
    if path is None or not path.exists() or not path.stat().st_mode & 0o077:
        return ()
    return (f"{path} can be read by other users (chmod 600 {path})",)


def running(name: str) -> Deployment | None:
    """The deployment of that name, if it runs: `run` takes a deployment's name as well as a REF."""
    folder = read_settings().deployments_dir
    entry = find(folder, name) if is_name(name) else None
    return entry if isinstance(entry, Deployment) and look(entry).state is State.RUNNING else None


def serve(
    request: UpRequest, confirm: Confirm, on_progress: OnProgress, announce: Callable[[Deployment], None]
) -> None:
    """`up` in the foreground: `announce` it, stay until it ends, end it on Ctrl-C and SIGTERM.

    Raises KeyboardInterrupt after those, EngineFailed with the cause when it ends by itself.
    """
    folder = read_settings().deployments_dir
    deployment: Deployment | None = None
    try:
        deployment = _ours(up(request, confirm, on_progress, keep_up=False))
        announce(deployment)
        attend(folder, deployment)
    except BaseException:
        if deployment is not None:
            with contextlib.suppress(NotFound):  # `attend` ends what it leaves; an announcement does not
                take_down(folder, deployment.name)
        raise


def _ours(found: Deployment) -> Deployment:
    """A deployment that this process started: the foreground does not end what was up before."""
    if found.starter is not None and found.starter.pid == os.getpid():
        return found
    raise UsageError(
        f"{found.name} runs already, in the background (pid {found.pid})", hint=f"launcher stop {found.name}"
    )


def locate_planned(
    ref: str, quant: str | None, flags: tuple[str, ...], on_progress: OnProgress
) -> tuple[Located, ...]:
    """The quant that is planned for this machine, and what these flags have it load besides."""
    return _wanted(plan_model(PlanRequest(ref=ref, quant=quant, flags=flags), on_progress))


def _wanted(planned: Planned) -> tuple[Located, ...]:
    """The plan's model, then what is to be brought here for it. Raises DoesNotFit, and why a companion cannot be had."""
    return (fitting(planned)[1], *files_of(planned.beside.remote))
