"""One server for one plan, made now or locked: what was asked for, what llama-server is told, what is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from launcher.commands import plan as planning
from launcher.commands.claims import claim_rows, driver_of
from launcher.commands.engine import Confirm, build, engine_or_agreement
from launcher.commands.plan import Planned, PlanRequest
from launcher.commands.pull import pulling_meanwhile
from launcher.deployment.address import check_exposure
from launcher.deployment.deploy import Request, already_up, bring_up
from launcher.deployment.record import Deployment, check_name, deployment_name, plan_hash
from launcher.deployment.supervisor.protect import memory_max
from launcher.engine.client import read_api_key
from launcher.engine.environment import engine_env
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.help_text import Capabilities
from launcher.machine.machine import Machine
from launcher.models.catalogue import Sources
from launcher.models.located import Located
from launcher.models.store import store_of
from launcher.plan.amounts import RAM
from launcher.plan.from_json import StoredPlan, stored
from launcher.plan.plan import Plan
from launcher.plan.workload import as_recorded
from launcher.progress import OnProgress
from launcher.system.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpRequest:
    """A plan, and where its server is to be found. `retry` False: nothing is tried a second time, neither with
    less memory nor after a crash. `canary`: ready only after a prompt as long as the context. `locked`: start what is
    in this file instead of planning."""

    plan: PlanRequest
    name: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    api_key_file: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    retry: bool = True
    canary: bool = False
    locked: Path | None = None


@dataclass(frozen=True, slots=True)
class Upping:
    """One `up` under way: what every attempt has in common. `beside` are the files that were brought here to be loaded
    beside the model, first shard each."""

    request: UpRequest
    name: str
    asked: str
    model_path: Path
    engine: Engine
    machine: Machine
    capabilities: Capabilities | None
    keep_up: bool
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """What is brought up: a plan, made now or locked. `rows` are the bytes it promises, by device and RAM."""

    model_id: str
    model_bytes: int
    stored_plan: StoredPlan
    rows: Mapping[str, int]
    compile: Callable[[Serving], tuple[str, ...]]


def start_planned(
    upping: Upping,
    planned: Planned,
    settings: Settings,
    on_progress: OnProgress,
    plan: Plan,
    attempt: Mapping[str, Any],
) -> Deployment:
    """Bring this plan up, once."""
    what = What(
        model_id=planned.target.model_id,
        model_bytes=plan.size_bytes,
        stored_plan=stored(plan),
        rows=claim_rows(plan, upping.machine),
        compile=partial(planning.compile_argv, planned, plan),
    )
    return start(upping, what, settings, on_progress, attempt)


def start(
    upping: Upping, what: What, settings: Settings, on_progress: OnProgress, attempt: Mapping[str, Any]
) -> Deployment:
    """Start llama-server and return once it has produced a token; `attempt` goes into the history. Raises what
    `bring_up` raises; afterwards nothing runs that did not run before."""
    request, found = upping.request, upping.capabilities
    plan = what.stored_plan.plan
    devices = () if plan is None else plan.placement.devices
    env, dropped = engine_env(os.environ, dict(request.env))

    def argv_for(port: int) -> tuple[str, ...]:
        return what.compile(serving_of(request, port, what.model_id, str(upping.model_path)))

    store = store_of(settings)
    for path in (upping.model_path, *upping.beside):
        store.keep_used(path)
    return bring_up(
        settings.deployments_dir,
        Request(
            name=upping.name,
            model_id=what.model_id,
            model_path=upping.model_path,
            model_bytes=what.model_bytes,
            stored_plan=what.stored_plan,
            plan_hash=upping.asked,
            argv_for=argv_for,
            env=env,
            env_dropped=dropped,
            host=request.host,
            port=request.port,
            api_key_file=request.api_key_file,
            engine_path=upping.engine.path,
            engine_sha256=found.sha256 if found else None,
            engine_commit=found.version.commit if found else None,
            cwd=Path.cwd() if request.plan.flags else Path("/"),
            keep_up=upping.keep_up and request.retry,
            canary=request.canary,
            memory_bytes=memory_max(what.rows.get(RAM, 0), _ram_of(upping.machine), n_devices=len(devices)),
            notes={
                "history": str(settings.history_file.absolute()),
                "driver": driver_of(upping.machine),
                "attempt": dict(attempt),
                "claim": dict(what.rows),
                "claim_folder": str(settings.claims_dir.absolute()),
                "devices": {
                    device.id: device.uuid
                    for device in upping.machine.devices
                    if device.uuid is not None and device.id in devices
                },
            },
        ),
        on_progress=on_progress,
    )


def serving_of(request: UpRequest, port: int, model_id: str, model_path: str) -> Serving:
    """Where the server is to be found, as its command line says it."""
    key = request.api_key_file
    return Serving(
        host=request.host,
        port=port,
        model_id=model_id,
        model_path=model_path,
        api_key_file=None if key is None else str(key.absolute()),
    )


def _ram_of(machine: Machine) -> int:
    return min(machine.ram_total_bytes, machine.ram_limit_bytes or machine.ram_total_bytes)


def asked_for(request: UpRequest, settings: Settings) -> dict[str, Any]:
    """What decides whether a second `up` asks for the same: everything typed, nothing measured. The plan itself
    would differ: a running deployment has taken memory. A relative path means another file in another folder."""
    plan = request.plan
    path = Path(plan.ref)
    engine = plan.engine or settings.engine
    return {
        "ref": str(path.absolute()) if path.exists() else plan.ref,
        "quant": plan.quant,
        "workload": as_recorded(plan.workload),
        "limits": asdict(plan.limits),
        "locked": request.locked.read_text(encoding="utf-8") if request.locked else None,
        "engine": str(engine.absolute()) if engine else None,
        "flags": plan.flags,
        "mode": plan.mode,
        "host": request.host,
        "api_key_file": str(request.api_key_file) if request.api_key_file else None,
        "env": request.env,
    }


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


def _looked_up(request: UpRequest, settings: Settings, model_id: str) -> tuple[str, str, Deployment | None]:
    """The deployment's name, the hash of what is asked for, and the deployment if just that is up already. Raises
    UsageError for a name, an address or a key file that cannot be used."""
    name = check_name(request.name or deployment_name(model_id))
    check_exposure(request.host, request.api_key_file)
    read_api_key(request.api_key_file)
    asked = plan_hash(asked_for(request, settings))
    return name, asked, already_up(settings.deployments_dir, name, asked, request.port)
