"""Hand a deployment, or the gateway, to systemd."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.commands.export.running import server_of
from launcher.deployment.install.export import (
    gateway_unit,
    systemd_unit,
)
from launcher.deployment.install.systemd import InstalledUnit, has_bus, install_unit, uninstall_unit
from launcher.deployment.records import find_record, name_or_only, require_record
from launcher.deployment.takedown import take_down
from launcher.errors import UsageError
from launcher.system.settings import read_settings

GATEWAY = "gateway"  # the name of its unit
_KEPT = ("LAUNCHER_", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")


def enable(name: str | None, *, now: bool, system: bool) -> InstalledUnit:
    """Install the deployment as a systemd unit, to be started with the session (or the machine).

    With `now` the deployment is ended, and systemd starts it on the same port.
    """
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    if now and not has_bus(system=system):
        raise UsageError(
            "systemd does not run here: --now has nobody to hand the deployment to",
            hint=f"launcher enable {entry.name}",
        )
    keys = () if entry.api_key_file is None else (entry.api_key_file,)
    ready = (sys.executable, "-P", "-m", "launcher.deployment.install.wait_until_ready", entry.url, *keys)
    text = systemd_unit(server_of(entry, ready=ready), system=system)
    if now:
        take_down(folder, entry.name)
    return install_unit(entry.name, text, system=system, now=now)


def enable_gateway(*, now: bool, system: bool) -> InstalledUnit:
    """Install `launcher serve` as a systemd unit, with the settings of config.toml.

    Raises UsageError if a deployment has its name.
    """
    if find_record(read_settings().deployments_dir, GATEWAY) is not None:
        raise UsageError(
            f"a deployment is called {GATEWAY}, and so would be its unit", hint=f"launcher stop {GATEWAY}"
        )
    argv = (sys.executable, "-P", "-m", "launcher", "serve", "--progress", "none")
    # what decides where things are kept, and where the gateway listens
    env = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_KEPT)))
    return install_unit(GATEWAY, gateway_unit(argv, env, system=system), system=system, now=now)


def disable(name: str, *, system: bool) -> Path:
    """Stop and remove the unit of that deployment. Raises NotFound."""
    return uninstall_unit(name, system=system)
