"""Write, verify, enable and start a systemd unit; without a bus it is only written and verified."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import EngineFailed, NotFound

_LIMIT_S = 60.0
# Settings that systemd before 254 does not know and passes over.
_PASSED_OVER = ("RestartSteps", "RestartMaxDelaySec")
_LINGER = Path("/var/lib/systemd/linger")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledUnit:
    unit: str
    path: Path
    verified: bool
    started: bool | None  # None: systemd does not run here


def unit_name(name: str) -> str:
    return f"launcher-{name}.service"


def unit_folder(*, system: bool) -> Path:
    if system:  # systemd.unit(5), the unit search path
        return Path("/etc/systemd/system")
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "systemd" / "user"


def has_bus(*, system: bool) -> bool:
    """Tell whether systemd answers: sd_booted(3), or the manager's socket for the user's."""
    if shutil.which("systemctl") is None:
        return False
    if system:
        return Path("/run/systemd/system").is_dir()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return runtime is not None and (Path(runtime) / "systemd/private").exists()


def lingers() -> bool:
    """Tell whether this user's systemd outlives the last login session."""
    # loginctl(1), enable-linger: a file per user
    return (_LINGER / getpass.getuser()).exists()


def installed_units() -> tuple[tuple[str, str], ...]:
    """Return this user's units: names of deployments, each with systemd's word for its state."""
    paths = sorted(unit_folder(system=False).glob(unit_name("*")))
    return tuple((path.stem.removeprefix("launcher-"), _state(path.name)) for path in paths)


def _state(unit: str) -> str:
    if not has_bus(system=False):
        return "systemd does not run here"
    return _run("systemctl", "--user", "is-active", unit).stdout.strip() or "unknown"


def verify_unit(path: Path, *, system: bool) -> bool:
    """Tell whether `systemd-analyze verify` accepts the unit; False if it cannot be asked.

    Raises EngineFailed with what is wrong.
    """
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return False
    scope = "--system" if system else "--user"
    with tempfile.TemporaryDirectory() as runtime:  # the user's manager needs a folder, and no bus
        env = {"XDG_RUNTIME_DIR": runtime, **os.environ}
        done = _run(analyze, scope, "--man=no", "verify", str(path), env=env)
    complaints = [
        line
        for line in done.stderr.splitlines()
        if path.name in line and not any(f"'{key}'" in line for key in _PASSED_OVER)
    ]
    if complaints:
        raise EngineFailed(
            f"systemd refuses {path}: {complaints[0]}", hint="launcher export systemd NAME shows it"
        )
    return done.returncode == 0


def install_unit(name: str, text: str, *, system: bool, now: bool) -> InstalledUnit:
    """Write and enable the unit; with `now` start it and wait until it is ready (ExecStartPost).

    Raises OSError, or EngineFailed with systemd's own words; then nothing is left of it.
    """
    folder = unit_folder(system=system)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / unit_name(name)
    path.write_text(text, encoding="utf-8")
    verified = verify_unit(path, system=system)
    if not has_bus(system=system):
        return InstalledUnit(unit=path.name, path=path, verified=verified, started=None)
    try:
        _systemctl(system, "daemon-reload")
        _systemctl(system, "enable", *(("--now",) if now else ()), path.name)
    except EngineFailed:
        uninstall_unit(name, system=system)
        raise
    return InstalledUnit(unit=path.name, path=path, verified=verified, started=now)


def uninstall_unit(name: str, *, system: bool) -> Path:
    """Stop, disable and remove the unit. Raises NotFound if there is none."""
    path = unit_folder(system=system) / unit_name(name)
    if not path.exists():
        other = unit_folder(system=not system) / path.name
        if not other.exists():
            raise NotFound(f"no unit {path.name} is installed", hint=f"launcher enable {name}")
        raise NotFound(
            f"no unit {path.name} is installed {_whose(system=system)}; {other} is there",
            hint=f"launcher disable {name}{'' if system else ' --system'}",
        )
    if has_bus(system=system):
        _systemctl(system, "disable", "--now", path.name)
    path.unlink()
    if has_bus(system=system):
        _systemctl(system, "daemon-reload")
    return path


def _whose(*, system: bool) -> str:
    return "for the machine" if system else "for this user"


def _systemctl(system: bool, *words: str) -> None:
    done = _run("systemctl", *(() if system else ("--user",)), *words, limit_s=None)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        errors = [line for line in lines if not line.startswith(("Created symlink", "Removed "))]
        raise EngineFailed(
            f"systemctl {' '.join(words)} failed: {errors[0] if errors else done.returncode}",
            hint=f"journalctl {'' if system else '--user '}-u {words[-1]}",
        )


def _run(
    *argv: str, limit_s: float | None = _LIMIT_S, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=limit_s,
        env=None if env is None else dict(env),
        check=False,
    )
