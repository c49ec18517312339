"""Plan and start one model, as `up` does. Imported with the first model: with it comes the planner."""

from __future__ import annotations

from dataclasses import replace

from launcher.commands.claims import claim_rows
from launcher.commands.engine import engine_or_none
from launcher.commands.engine_pin import with_pin
from launcher.commands.inspect import inspect
from launcher.commands.plan import plan_on
from launcher.commands.planned import PlanRequest, fitting
from launcher.commands.up.request import UpRequest
from launcher.commands.up.up import up
from launcher.deployment.record import Deployment
from launcher.gateway.catalogue import Servable
from launcher.gateway.planned_start import Means, PlannedStart
from launcher.machine.machine import Machine
from launcher.plan.workload import Limits, Workload
from launcher.progress import OnProgress, Step

_USUAL_SLOTS = 4  # as llama-server: they share the context
_LOAD_BYTES_S, _START_S = 1.5e9, 2.0  # guesses for the first load; then it is measured


def plan_start(means: Means, servable: Servable, machine: Machine) -> PlannedStart:
    """Plan the model for this machine. Raises DoesNotFit and what planning raises."""
    target = inspect(means.here, servable.ref)
    request = with_pin(means.here, _request(means, servable).plan, target)
    engine = means.engine if request.engine is None else engine_or_none(means.here, request.engine)
    planned = plan_on(means.here, request, target, machine, engine)
    plan, _ = fitting(planned)
    rows = {key: n_bytes for key, n_bytes in claim_rows(plan, machine).items() if n_bytes}
    return PlannedStart(
        needs=rows,
        load_s=_START_S + plan.size_bytes / _LOAD_BYTES_S,
        can_shrink=plan.placement.n_gpu_layers > 0,
        tokens_per_s=None if plan.forecast is None else plan.forecast.decode.mid,
    )


def start(means: Means, servable: Servable, on_progress: OnProgress) -> Deployment:
    """Bring the model up. Raises what `up` raises; then nothing of it runs."""
    shown = means.here.on_progress

    def tell(step: Step) -> None:
        shown(step)
        on_progress(step)

    return up(replace(means.here, on_progress=tell), _request(means, servable))


def _request(means: Means, servable: Servable) -> UpRequest:
    config = servable.config
    workload = Workload(ctx_size=config.ctx_size, n_parallel=config.slots or _USUAL_SLOTS)
    return UpRequest(
        plan=PlanRequest(
            ref=servable.ref,
            workload=workload,
            limits=Limits(max_ram_bytes=means.max_ram_bytes),
            engine=means.engine_path,
            flags=config.flags,
            mode=config.mode,
        ),
        name=servable.key,
        api_key_file=means.api_key_file,
    )
