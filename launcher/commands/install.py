"""What happens to a deployment after it is up: started again, installed, exported."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

from launcher.engine import claims
from launcher.engine.deploy import Request, bring_up
from launcher.engine.deployments import check_room, require, the_name
from launcher.engine.export import (
    Export,
    Format,
    compose_file,
    kubernetes_manifest,
    shell_script,
    systemd_unit,
)
from launcher.engine.identity import Presence, presence
from launcher.engine.options import parse
from launcher.engine.process import MARKER, engine_env
from launcher.engine.record import Deployment
from launcher.engine.systemd import Installed, has_bus, install, uninstall
from launcher.engine.takedown import take_down
from launcher.progress import OnProgress
from launcher.settings import read_settings

IMAGE = "llama.cpp:server"


def restart(name: str | None, on_progress: OnProgress) -> Deployment:
    """The same server again: same command line, port, environment and policy; nothing is planned anew.

    Raises NotFound, UsageError, and what starting raises; then it is gone, and `up` plans it again.
    """
    folder = read_settings().deployments_dir
    entry = require(folder, the_name(folder, name))
    env, options = _env_of(entry), parse(entry.options)
    check_room(folder)  # before what runs is ended
    take_down(folder, entry.name)
    return bring_up(
        folder,
        Request(
            name=entry.name,
            model_id=entry.model_id,
            model_path=Path(entry.model_path),
            model_bytes=entry.model_bytes,
            plan=entry.plan,
            plan_hash=entry.plan_hash,
            argv_for=lambda _port: entry.argv,
            env=env,
            env_dropped=entry.env_dropped,
            host=entry.host,
            port=entry.port,
            api_key_file=None if entry.api_key_file is None else Path(entry.api_key_file),
            engine_path=Path(entry.engine_path),
            engine_sha256=entry.engine_sha256,
            engine_commit=entry.engine_commit,
            keep_up=options.keep_up,
            canary=options.canary,
            memory_bytes=options.memory_bytes,
            notes={
                "history": options.history,
                "driver": options.driver,
                "claim": options.claim,
                "claim_folder": options.claim_folder,
                "devices": options.devices,
            },
        ),
        on_progress=on_progress,
    )


def export(name: str | None, format_: Format, image: str = IMAGE) -> str:
    """A deployment's server for elsewhere. Raises NotFound, UsageError."""
    folder = read_settings().deployments_dir
    entry = require(folder, the_name(folder, name))
    what = _export_of(entry)
    match format_:
        case Format.SYSTEMD:
            return systemd_unit(what)
        case Format.SHELL:
            return shell_script(what)
        case Format.COMPOSE:
            return compose_file(what, image)
        case Format.KUBERNETES:
            return kubernetes_manifest(what, image)


def enable(name: str | None, *, now: bool, system: bool) -> Installed:
    """Install the deployment as a systemd unit, to be started with the session (or the machine).

    With `now` it is taken over: the deployment is ended and systemd starts it on the same port.
    """
    folder = read_settings().deployments_dir
    entry = require(folder, the_name(folder, name))
    keys = () if entry.api_key_file is None else (entry.api_key_file,)
    ready = (sys.executable, "-P", "-m", "launcher.engine.answers", entry.url, *keys)
    text = systemd_unit(_export_of(entry, ready=ready), system=system)
    if now and has_bus(system=system):  # where there is no systemd, what runs goes on
        take_down(folder, entry.name)
    return install(entry.name, text, system=system, now=now)


def disable(name: str, *, system: bool) -> Path:
    """Stop and remove the unit of that deployment. Raises NotFound."""
    return uninstall(name, system=system)


def _export_of(entry: Deployment, ready: tuple[str, ...] | None = None) -> Export:
    host = entry.plan.get("host") or {}
    options = parse(entry.options)
    used = int(options.claim.get(claims.RAM) or host.get("used_bytes") or 0)
    devices = (entry.plan.get("placement") or {}).get("devices") or []
    return Export(
        name=entry.name,
        model_id=entry.model_id,
        argv=entry.argv,
        model_folder=str(Path(entry.model_path).parent),
        port=entry.port,
        host_bytes=used,
        limit_bytes=options.memory_bytes,
        n_cuda=sum(device.startswith("CUDA") for device in devices),
        api_key_file=entry.api_key_file,
        ready=ready,
    )


def _env_of(entry: Deployment) -> dict[str, str]:
    """The environment of its supervisor, while that lives; else this process's."""
    keeper, env = entry.supervisor, dict(os.environ)
    if keeper is not None and presence(keeper) is Presence.RUNNING:
        with contextlib.suppress(psutil.Error):
            running = psutil.Process(keeper.pid).environ()
            env = {key: value for key, value in running.items() if key != MARKER}
    passed = {key: env[key] for key in parse(entry.options).passed if key in env}
    return engine_env(env, passed)[0]
