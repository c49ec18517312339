"""Start one server for one plan: what llama-server is told, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launcher.commands.claims import claim_rows, driver_of
from launcher.commands.here import Here
from launcher.commands.planned import Planned, compile_argv
from launcher.commands.up.request import Named, UpRequest, serving_of
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.history import RescueNote
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.protect import memory_max
from launcher.engine.environment import engine_env, is_secret
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.help_text import Capabilities
from launcher.machine.machine import Machine
from launcher.plan.amounts import RAM
from launcher.plan.from_json import StoredPlan, stored
from launcher.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What every try of one `up` shares."""

    request: UpRequest
    name: str
    request_hash: str
    # brought here, first shard each
    model_path: Path
    companion_paths: tuple[Path, ...]
    engine: Engine
    capabilities: Capabilities | None
    machine: Machine


def attempt_of(
    request: UpRequest,
    named: Named,
    fetched: Sequence[tuple[Path, ...]],
    engine: Engine,
    capabilities: Capabilities | None,
    machine: Machine,
) -> Attempt:
    """Join what is asked for and what is here; `fetched` has the model's shards, then its companions'."""
    model, *companions = fetched
    return Attempt(
        request=request,
        name=named.name,
        request_hash=named.request_hash,
        model_path=model[0],
        companion_paths=tuple(shards[0] for shards in companions),
        engine=engine,
        capabilities=capabilities,
        machine=machine,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launchable:
    """What a server is started from: a plan made now, or one read from a lock file."""

    model_id: str
    model_bytes: int
    stored_plan: StoredPlan
    # bytes reserved for it, by device and RAM
    rows: Mapping[str, int]
    compile: Callable[[Serving], tuple[str, ...]]


def start_planned(
    here: Here, attempt: Attempt, planned: Planned, plan: Plan, rescue: RescueNote
) -> Deployment:
    """Bring this plan up, once."""
    launchable = Launchable(
        model_id=planned.target.model_id,
        model_bytes=plan.size_bytes,
        stored_plan=stored(plan),
        rows=claim_rows(plan, attempt.machine),
        compile=partial(compile_argv, planned, plan),
    )
    return start(here, attempt, launchable, rescue)


def start(here: Here, attempt: Attempt, launchable: Launchable, rescue: RescueNote) -> Deployment:
    """Start llama-server and return once it has produced a token; `rescue` goes into the history.

    Raises what `bring_up` raises; afterwards nothing runs that did not run before.
    """
    request = attempt.request

    def argv_for(port: int) -> tuple[str, ...]:
        return launchable.compile(serving_of(request, port, launchable.model_id, str(attempt.model_path)))

    for path in (attempt.model_path, *attempt.companion_paths):
        here.sources.store.keep_used(path)
    env, dropped = engine_env(here.env, dict(request.env))
    known = attempt.capabilities
    return bring_up(
        here.settings.deployments_dir,
        Request(
            name=attempt.name,
            model_id=launchable.model_id,
            model_path=attempt.model_path,
            model_bytes=launchable.model_bytes,
            stored_plan=launchable.stored_plan,
            plan_hash=attempt.request_hash,
            argv_for=argv_for,
            env=env,
            env_dropped=dropped,
            host=request.host,
            port=request.port,
            api_key_file=request.api_key_file,
            engine_path=attempt.engine.path,
            engine_sha256=known.sha256 if known else None,
            engine_commit=known.version.commit if known else None,
            cwd=Path.cwd() if request.plan.flags else Path("/"),
            options=_options(here, attempt, launchable, rescue),
        ),
        on_progress=here.on_progress,
    )


def _options(here: Here, attempt: Attempt, launchable: Launchable, rescue: RescueNote) -> SupervisorOptions:
    request, devices = attempt.request, _devices_of(launchable)
    return SupervisorOptions(
        keep_up=request.keep_up and request.retry,
        engine_pin=request.plan.pinned_by,
        replica_of=request.replica_of,
        canary=request.canary,
        memory_bytes=_memory_limit(attempt, launchable),
        history=str(here.settings.history_file.absolute()),
        driver=driver_of(attempt.machine),
        attempt=rescue,
        claim=launchable.rows,
        env={name: value for name, value in request.env if not is_secret(name, value)},
        claim_folder=str(here.settings.claims_dir.absolute()),
        devices={
            device.id: device.uuid
            for device in attempt.machine.devices
            if device.uuid is not None and device.id in devices
        },
    )


def _devices_of(launchable: Launchable) -> tuple[str, ...]:
    plan = launchable.stored_plan.plan
    return () if plan is None else plan.placement.devices


def _memory_limit(attempt: Attempt, launchable: Launchable) -> int | None:
    return memory_max(
        launchable.rows.get(RAM, 0), attempt.machine.ram_bytes, n_devices=len(_devices_of(launchable))
    )
