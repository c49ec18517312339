"""Find a deployment that is up, and start it again."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import psutil

from launcher.deployment.address import check_start
from launcher.deployment.check_record import check_record
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.history import RescueNote
from launcher.deployment.identity import Presence, find_presence
from launcher.deployment.process import MARKER
from launcher.deployment.record import Deployment, is_name
from launcher.deployment.records import check_disk_space, find_record, name_or_only, require_record
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.takedown import take_down
from launcher.engine.environment import engine_env
from launcher.errors import UsageError
from launcher.progress import OnProgress
from launcher.system.settings import read_settings


def running(name: str) -> Deployment | None:
    """Return the deployment of that name, if it runs."""
    folder = read_settings().deployments_dir
    entry = find_record(folder, name) if is_name(name) else None
    return (
        entry
        if isinstance(entry, Deployment) and read_status(entry).state is DeploymentState.RUNNING
        else None
    )


def restart(name: str | None, on_progress: OnProgress) -> Deployment:
    """Start the same server again: same command line, port, environment and policy.

    Raises NotFound, UsageError, and what starting raises; then it is gone, and `up` plans it again.
    """
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    if entry.options.epoch is not None:
        raise UsageError(
            f"{entry.name} is a rank of a gang: its head starts it again",
            hint="launcher restart NAME on the head's machine",
        )
    # Whatever would keep it from starting is found before what runs is ended.
    entry = check_record(folder, entry, read_settings)
    env = _env_of(entry)
    check_start(entry.argv)
    check_disk_space(folder)
    take_down(folder, entry.name)
    return bring_up(
        folder,
        Request(
            name=entry.name,
            model_id=entry.model_id,
            model_path=Path(entry.model_path),
            model_bytes=entry.model_bytes,
            stored_plan=entry.stored_plan,
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
            options=replace(entry.options, attempt=RescueNote()),
        ),
        on_progress=on_progress,
    )


def _env_of(entry: Deployment) -> dict[str, str]:
    """Return the environment of its supervisor, while that lives; else this process's, and what -e gave.

    Raises UsageError without a secret that was given with -e: no file keeps those.
    """
    keeper, env = entry.supervisor, dict(os.environ)
    if keeper is not None and find_presence(keeper) is Presence.RUNNING:
        with contextlib.suppress(psutil.Error):
            running = psutil.Process(keeper.pid).environ()
            env = {key: value for key, value in running.items() if key != MARKER}
    missing = [name for name in entry.options.secrets if name not in env]
    if missing:
        raise UsageError(
            f"{entry.name} was given {', '.join(missing)} with -e: that looks like a secret, which no file "
            "keeps, and its supervisor, which knew it, is gone",
            hint=f"{' '.join(f'{name}=…' for name in missing)} launcher restart {entry.name}",
        )
    typed = {name: env[name] for name in entry.options.secrets} | dict(entry.options.env)
    return engine_env(env, typed)[0]
