"""Bring a model up: inspect, probe, plan, pull, start; the story, top to bottom.

Everything is wired here and nothing is decided here: `plan` decides, the edges act.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from operator import itemgetter

from launcher.commands.claims import ignoring
from launcher.commands.engine import refuse_unused_gpu
from launcher.commands.engine_build import engine_or_build
from launcher.commands.engine_pin import with_pin
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.plan import plan, plan_on, replan
from launcher.commands.plan_and_claim import plan_and_claim
from launcher.commands.planned import (
    Planned,
    PlanRequest,
    files_to_bring,
    fitting,
    path_to_be,
    pinned,
    printed_argv,
    started_with,
)
from launcher.commands.probe import probe
from launcher.commands.pull import fetch_all
from launcher.commands.up.locked import up_locked
from launcher.commands.up.pull_meanwhile import pull_meanwhile
from launcher.commands.up.request import UpRequest, look_up, serving_of
from launcher.commands.up.retry import Launch, launch_or_rescue
from launcher.commands.up.start import Attempt, attempt_of, start_planned
from launcher.deployment import claims
from launcher.deployment.address import check_exposure
from launcher.deployment.ports import free_port
from launcher.deployment.record import Deployment
from launcher.deployment.reserved import Reserved
from launcher.engine.find import Engine
from launcher.errors import DoesNotFit
from launcher.models.catalogue import Target
from launcher.models.located import HubFiles, Located
from launcher.progress import remark
from launcher.system.owned_files import user_name
from launcher.units import format_bytes


def up(here: Here, request: UpRequest) -> Deployment:
    """Plan, pull and start a model; return it, or the one that runs, once it has produced a token.

    Raises DoesNotFit, and what its parts raise; afterwards nothing runs that did not run before.
    """
    if request.locked is not None:
        return up_locked(here, request, request.locked)
    # planned twice where an engine is built meanwhile: the Hub is asked once
    target = opened_once(inspect(here, request.plan.ref, request.plan.quant))
    request = replace(request, plan=with_pin(here, request.plan, target))
    named = look_up(here, request, target.model_id)
    if named.running is not None:
        return named.running
    again = partial(_pull_command, request.plan)
    engine = engine_or_build(
        here,
        request.plan.engine,
        meanwhile=lambda: pull_meanwhile(here, partial(_files_without_engine, request.plan, target), again),
    )
    if request.plan.limits.gpus != ():
        refuse_unused_gpu(here, engine, accepted=request.cpu_alone)
    key = claims.claim_key(here.settings.deployments_dir, named.name)
    try:
        planned = _plan_and_claim(here, request, target, engine, (key, named.name))
        _, located = fitting(planned)
        fetched = fetch_all(here, files_to_bring(planned), again(located))
        attempt = attempt_of(request, named, fetched, engine, planned.capabilities, planned.machine)
        return launch_or_rescue(here, _launch(here, attempt, started_with(planned, attempt.companion_paths)))
    except BaseException:
        claims.drop_claim(here.settings.claims_dir, key)
        raise


def rehearse(here: Here, request: UpRequest) -> Planned:
    """Plan what `up` would start, command line and address included; without a port, one that is free now."""
    check_exposure(request.host, request.api_key_file)
    planned = plan(here, request.plan)
    if planned.plan is None or planned.located is None:
        return planned
    port = request.port or free_port(request.host)
    serving = serving_of(request, port, planned.target.model_id, path_to_be(planned.located))
    return replace(planned, argv=printed_argv(planned, planned.plan, serving))


def _launch(here: Here, attempt: Attempt, planned: Planned) -> Launch:
    plan, located = fitting(planned)
    return Launch(
        plan=plan,
        machine=attempt.machine,
        workload=pinned(planned, plan),
        replan=partial(replan, here, planned, plan.quant, located),
        start=partial(start_planned, here, attempt, planned),
        engine_sha256=planned.capabilities.sha256 if planned.capabilities else None,
        retry=attempt.request.retry,
    )


def _plan_and_claim(
    here: Here, request: UpRequest, target: Target, engine: Engine, claimed: tuple[str, str]
) -> Planned:
    """Plan, and reserve what the plan takes. Raises DoesNotFit, which names who reserves most."""
    planned, reserved = plan_and_claim(here, request.plan, target, engine, claimed)
    try:
        plan, _ = fitting(planned)
    except DoesNotFit as error:
        _name_largest(error, reserved)
        raise
    if plan.unverified is not None:  # the load itself will tell
        here.on_progress(remark("plan", f"that it fits is not verified: {plan.unverified}"))
    return planned


def _name_largest(error: DoesNotFit, reserved: Reserved) -> None:
    # the deployment that reserved most is the first to look at
    largest, n_bytes = max(reserved.by_claim, key=itemgetter(1), default=(None, 0))
    if largest is None or not n_bytes:
        return
    if largest.owner == os.geteuid():
        error.hint = (
            f"launcher stop {largest.name} (it was promised {format_bytes(n_bytes)}); or {error.hint}"
        )
    else:
        left = f"{format_bytes(n_bytes)} are left to {largest.name} of {user_name(largest.owner)}"
        error.hint = f"{ignoring(largest)} before the command ({left}); or {error.hint}"


def _files_without_engine(request: PlanRequest, target: Target, here: Here) -> tuple[Located, ...]:
    # planned by estimate, while the engine that would simulate is built
    return files_to_bring(plan_on(here, request, target, probe(here), None))


def _pull_command(request: PlanRequest, located: Located) -> tuple[str, ...]:
    if isinstance(located.files, HubFiles):
        ref = (located.model.model_id,)  # with the quant that was chosen
    else:
        ref = (request.ref, *(("--quant", request.quant) if request.quant else ()))
    return ("launcher", "pull", *ref, *(("--", *request.flags) if request.flags else ()))
