"""The supervisor as a transient unit of the user's systemd, where that runs and outlives the login session.

Who does what: the supervisor starts llama-server again, systemd starts the supervisor again; the record has one writer
either way. systemd's part is what the supervisor cannot do for itself: come back after a kill -9, a memory limit that
the kernel keeps, and a journal of starts and endings. llama-server's own log stays a file of ours (0600): journals can
be read by groups, and prompts are in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.deployment.identity import ProcessId, identify
from launcher.deployment.install.systemd import lingers
from launcher.deployment.process import GRACE_S, KILL_S
from launcher.errors import EngineFailed, TryAgain

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What systemd is to keep up: `what` in words, `argv` with exactly `env` beside its own, in `cwd`, stderr appended to `log`."""

    unit: str
    what: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    memory_bytes: int | None


def is_available(environ: Mapping[str, str]) -> bool:
    """Whether a systemd answers that keeps what it is given, also after the end of this session: without lingering it
    would take what was meant to survive the session with it."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime is None or shutil.which("systemd-run", path=environ.get("PATH")) is None:
        return False
    return (Path(runtime) / "systemd/private").exists() and lingers()


def properties(service: Service) -> tuple[str, ...]:
    """systemd.service(5), systemd.exec(5), systemd.resource-control(5). OOMPolicy: the kernel ending llama-server is
    the supervisor's to diagnose, not the unit's end. KillMode: SIGTERM to the supervisor, SIGKILL to what it leaves. The
    status of a deployment that was given up, or whose record could not be written, is not tried again."""
    limit = () if service.memory_bytes is None else (f"MemoryMax={service.memory_bytes}",)
    return (
        f"WorkingDirectory={service.cwd}",
        "StandardOutput=journal",
        f"StandardError=append:{service.log}",
        "Restart=on-failure",
        "RestartSec=2",
        f"RestartPreventExitStatus={EngineFailed.exit_code} {TryAgain.exit_code}",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "KillMode=mixed",
        f"TimeoutStopSec={GRACE_S + KILL_S:.0f}",
        "OOMPolicy=continue",
        "LimitCORE=0",
        "UMask=0077",
        *limit,
    )


def unit_command(service: Service) -> tuple[str, ...]:
    """systemd-run's words. Variables go by name, so that no value is in a command line; what systemd would take for
    a variable in `argv` is doubled (systemd.service(5), command lines)."""
    return (
        "systemd-run",
        "--user",
        "--quiet",
        "--collect",
        f"--unit={service.unit}",
        f"--description=llama-server: {service.what}",
        "--service-type=exec",
        *(f"--property={each}" for each in properties(service)),
        *(f"--setenv={name}" for name in sorted(service.env) if _ENV_NAME.fullmatch(name)),
        "--",
        *(word.replace("$", "$$") for word in service.argv),
    )


def start_unit(service: Service) -> ProcessId:
    """Have systemd start it; the process it started. Raises EngineFailed with systemd's words."""
    done = _run(unit_command(service), service.env)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise EngineFailed(said[-1] if said else f"systemd-run ended with status {done.returncode}")
    pid = _run(
        ("systemctl", "--user", "show", "--property=MainPID", "--value", service.unit), service.env
    ).stdout
    process = identify(int(pid)) if pid.strip().isdecimal() and int(pid) else None
    if process is None:
        raise EngineFailed("it ended as soon as systemd had started it")
    return process


def stop_unit(unit: str, *, wait: bool) -> bool:
    """End the unit, and its next start where one is due; False where systemd was not reached or knows no such unit."""
    how = () if wait else ("--no-block",)
    return _run(("systemctl", "--user", "stop", *how, unit), os.environ).returncode == 0


def is_kept(unit: str) -> bool:
    """Whether systemd still means it to run: it does, or is to be started again."""
    done = _run(("systemctl", "--user", "is-active", unit), os.environ)
    return done.stdout.strip() in {"active", "activating", "reloading"}


def _run(argv: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))
