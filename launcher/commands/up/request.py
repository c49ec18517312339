"""What `up` is asked for, checked and compared with what runs already."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.planned import PlanRequest
from launcher.deployment.address import check_exposure
from launcher.deployment.deploy import already_up
from launcher.deployment.record import Deployment, check_name, deployment_name, plan_hash
from launcher.engine.environment import Why, config_files, engine_env, why_dropped
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.user_flags import uncounted_notes
from launcher.engine.key_file import read_api_key
from launcher.plan.workload import as_recorded
from launcher.system.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpRequest:
    """A plan request, and where its server is to be found."""

    plan: PlanRequest
    name: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    api_key_file: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    # False: the first failure is the last word
    retry: bool = True
    # ready only after a prompt as long as the context
    canary: bool = False
    # start what is in this file instead of planning
    locked: Path | None = None
    # start it again when it dies later
    keep_up: bool = True
    # go on where the engine cannot use the GPU that a plan may count on
    cpu_alone: bool = False
    # the name that the gateway serves it under, beside others like it
    replica_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A request under the name of its deployment."""

    name: str
    request_hash: str
    # that deployment, if just this is up already
    running: Deployment | None


def look_up(here: Here, request: UpRequest, model_id: str, locked: str | None = None) -> Named:
    """Name the deployment, of the lock whose text is `locked` if any, and find it if it is up already.

    Raises UsageError for a name, address or key file that cannot be used, or if something else has the name.
    """
    name = check_name(request.name or deployment_name(model_id))
    check_exposure(request.host, request.api_key_file)
    read_api_key(request.api_key_file)
    request_hash = plan_hash(_identity(request, here.settings, locked))
    running = already_up(here.settings.deployments_dir, name, request_hash, request.port)
    return Named(name=name, request_hash=request_hash, running=running)


def serving_of(request: UpRequest, port: int, model_id: str, model_path: str) -> Serving:
    """Say where the server is to be found, as its command line does."""
    key = request.api_key_file
    return Serving(
        host=request.host,
        port=port,
        model_id=model_id,
        model_path=model_path,
        api_key_file=None if key is None else str(key.absolute()),
    )


def notes(here: Here, request: UpRequest) -> tuple[str, ...]:
    """Tell what is dropped, what applies silently and what is not counted, although nothing is wrong."""
    env, dropped = engine_env(here.env, dict(request.env))
    # The rest, which no llama-server needs, is in the record: `ps --json`, env_dropped.
    sentences = [
        f"{name} is not passed on: {why} (-e {name}=… passes it)"
        for name in dropped
        if (why := why_dropped(name, here.env[name])) in {Why.SILENT, Why.SECRET}
    ]
    sentences += [
        f"{path} is there, and llama-server takes from it what this command does not set"
        for path in config_files(env)
    ]
    return (*sentences, *_exposed_keys(request.api_key_file), *uncounted_notes(request.plan.flags))


def _identity(request: UpRequest, settings: Settings, locked: str | None) -> dict[str, object]:
    # what was typed decides whether a second `up` asks for the same: the plan itself would differ, since a
    # running deployment has taken memory
    plan = request.plan
    path = Path(plan.ref)
    engine = plan.engine or settings.engine
    return {
        "ref": str(path.absolute())
        if path.exists()
        else plan.ref,  # relative: another file in another folder
        "quant": plan.quant,
        "workload": as_recorded(plan.workload),
        "limits": asdict(plan.limits),
        "locked": locked,
        "engine": str(engine.absolute()) if engine else None,
        "flags": plan.flags,
        "mode": plan.mode,
        "host": request.host,
        "api_key_file": str(request.api_key_file) if request.api_key_file else None,
        "env": request.env,
        **({} if plan.vision else {"vision": False}),  # a deployment from before there was a choice
    }


def _exposed_keys(path: Path | None) -> tuple[str, ...]:
    # llama-server reads the file, argv never holds a key; one that others can read is no secret
    if path is None or not path.exists() or not path.stat().st_mode & 0o077:
        return ()
    return (f"{path} can be read by other users (chmod 600 {path})",)
