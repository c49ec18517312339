"""What happens to a deployment after it is up: started again, installed, exported."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from launcher.engine import claims
from launcher.engine.deploy import Request, bring_up
from launcher.engine.deployments import require, the_name
from launcher.engine.export import (
    Export,
    Format,
    compose_file,
    kubernetes_manifest,
    shell_script,
    systemd_unit,
)
from launcher.engine.identity import Presence, presence
from launcher.engine.process import MARKER, engine_env
from launcher.engine.record import Deployment
from launcher.engine.systemd import Installed, install, uninstall
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
    env, options = _as_started(entry)
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
            keep_up=bool(options.get("keep_up", True)),
            canary=bool(options.get("canary", False)),
            memory_bytes=options.get("memory_bytes"),
            notes={
                key: options[key]
                for key in ("history", "driver", "claim", "claim_folder", "devices")
                if key in options
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
    if now:
        take_down(folder, entry.name)
    return install(entry.name, text, system=system, now=now)


def disable(name: str, *, system: bool) -> Path:
    """Stop and remove the unit of that deployment. Raises NotFound."""
    return uninstall(name, system=system)


def _export_of(entry: Deployment, ready: tuple[str, ...] | None = None) -> Export:
    host = entry.plan.get("host") or {}
    _, options = _as_started(entry)
    used = int((options.get("claim") or {}).get(claims.RAM) or host.get("used_bytes") or 0)
    devices = (entry.plan.get("placement") or {}).get("devices") or []
    return Export(
        name=entry.name,
        model_id=entry.model_id,
        argv=entry.argv,
        model_folder=str(Path(entry.model_path).parent),
        port=entry.port,
        host_bytes=used,
        limit_bytes=options.get("memory_bytes"),
        n_cuda=sum(device.startswith("CUDA") for device in devices),
        api_key_file=entry.api_key_file,
        ready=ready,
    )


def _as_started(entry: Deployment) -> tuple[dict[str, str], dict[str, Any]]:
    """The environment and options of its supervisor, while that lives; else this process's environment."""
    keeper = entry.supervisor
    if keeper is not None and presence(keeper) is Presence.RUNNING:
        with contextlib.suppress(psutil.Error, ValueError, IndexError):
            running = psutil.Process(keeper.pid)
            options = json.loads(running.cmdline()[-1])
            env = {key: value for key, value in running.environ().items() if key != MARKER}
            passed = {key: env[key] for key in options.get("passed", ()) if key in env}
            return engine_env(env, passed)[0], options
    return engine_env(os.environ)[0], {}
