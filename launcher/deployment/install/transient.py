"""Run the supervisor as a transient unit of the user's systemd."""

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
    unit: str
    title: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    memory_bytes: int | None


def is_available(environ: Mapping[str, str]) -> bool:
    """Tell whether the user's systemd answers and outlives the login session."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime is None or shutil.which("systemd-run", path=environ.get("PATH")) is None:
        return False
    return (Path(runtime) / "systemd/private").exists() and lingers()


# systemd restarts the supervisor, has the kernel enforce a memory limit, and keeps a journal of starts and
# endings.
def properties(service: Service) -> tuple[str, ...]:
    """Return the unit's properties: systemd.{service,exec,resource-control}(5)."""
    limit = () if service.memory_bytes is None else (f"MemoryMax={service.memory_bytes}",)
    return (
        f"WorkingDirectory={service.cwd}",
        "StandardOutput=journal",
        # llama-server's own log stays a file (0600): groups can read journals, and prompts are in the log.
        f"StandardError=append:{service.log}",
        "Restart=on-failure",
        "RestartSec=2",
        # A deployment that was given up, or whose record cannot be written, is not tried again.
        f"RestartPreventExitStatus={EngineFailed.exit_code} {TryAgain.exit_code}",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "KillMode=mixed",  # SIGTERM to the supervisor, SIGKILL to what it leaves
        f"TimeoutStopSec={GRACE_S + KILL_S:.0f}",
        "OOMPolicy=continue",  # if the kernel ends llama-server, the supervisor says why
        "LimitCORE=0",
        "UMask=0077",
        *limit,
    )


def unit_command(service: Service) -> tuple[str, ...]:
    return (
        "systemd-run",
        "--user",
        "--quiet",
        "--collect",
        f"--unit={service.unit}",
        f"--description=llama-server: {service.title}",
        "--service-type=exec",
        *(f"--property={each}" for each in properties(service)),
        # By name, so that no value is in a command line.
        *(f"--setenv={name}" for name in sorted(service.env) if _ENV_NAME.fullmatch(name)),
        "--",
        # systemd would take `$` for a variable (systemd.service(5), command lines).
        *(word.replace("$", "$$") for word in service.argv),
    )


def start_unit(service: Service) -> ProcessId:
    """Have systemd start the service. Raises EngineFailed with systemd's words."""
    done = _run(unit_command(service), service.env)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise EngineFailed(lines[-1] if lines else f"systemd-run ended with status {done.returncode}")
    pid = _run(
        ("systemctl", "--user", "show", "--property=MainPID", "--value", service.unit), service.env
    ).stdout
    process = identify(int(pid)) if pid.strip().isdecimal() and int(pid) else None
    if process is None:
        raise EngineFailed("it ended as soon as systemd had started it")
    return process


def stop_unit(unit: str, *, wait: bool) -> bool:
    """End the unit, and cancel its next start; False if systemd knows no such unit."""
    how = () if wait else ("--no-block",)
    return _run(("systemctl", "--user", "stop", *how, unit), os.environ).returncode == 0


def is_kept(unit: str) -> bool:
    """Tell whether systemd runs the unit, or is to start it again."""
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
