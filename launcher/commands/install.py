"""Hand a deployment to systemd, or write it for containers and shells."""

from __future__ import annotations

import sys
from pathlib import Path

from launcher.deployment.address import check_start
from launcher.deployment.install.export import (
    Export,
    Format,
    compose_file,
    kubernetes_manifest,
    shell_script,
    systemd_unit,
)
from launcher.deployment.install.systemd import InstalledUnit, has_bus, install_unit, uninstall_unit
from launcher.deployment.record import Deployment
from launcher.deployment.records import name_or_only, require_record
from launcher.deployment.takedown import take_down
from launcher.plan.amounts import HOST, RAM
from launcher.system.settings import read_settings

IMAGE = "llama.cpp:server"


def export(name: str | None, format_: Format, image: str = IMAGE) -> str:
    """Write a deployment's server for elsewhere. Raises NotFound, UsageError."""
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    server = _export_of(entry)
    match format_:
        case Format.SYSTEMD:
            return systemd_unit(server)
        case Format.SHELL:
            return shell_script(server)
        case Format.COMPOSE:
            return compose_file(server, image)
        case Format.KUBERNETES:
            return kubernetes_manifest(server, image)


def enable(name: str | None, *, now: bool, system: bool) -> InstalledUnit:
    """Install the deployment as a systemd unit, to be started with the session (or the machine).

    With `now` the deployment is ended, and systemd starts it on the same port.
    """
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    keys = () if entry.api_key_file is None else (entry.api_key_file,)
    ready = (sys.executable, "-P", "-m", "launcher.deployment.install.wait_until_ready", entry.url, *keys)
    text = systemd_unit(_export_of(entry, ready=ready), system=system)
    if now and has_bus(system=system):  # where there is no systemd, what runs goes on
        take_down(folder, entry.name)
    return install_unit(entry.name, text, system=system, now=now)


def disable(name: str, *, system: bool) -> Path:
    """Stop and remove the unit of that deployment. Raises NotFound."""
    return uninstall_unit(name, system=system)


def _export_of(entry: Deployment, ready: tuple[str, ...] | None = None) -> Export:
    check_start(entry.argv)
    options = entry.options
    used = int(options.claim.get(RAM) or entry.planned_bytes.get(HOST) or 0)
    devices = () if entry.plan is None else entry.plan.placement.devices
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
        env=tuple(sorted(options.env.items())),
        secrets=options.secrets,
        ready=ready,
    )
