"""Hand a deployment to systemd, or write it for containers and shells."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from launcher.commands.here import Here
from launcher.commands.plan import plan as plan_model
from launcher.commands.plan_fleet import plan_fleet
from launcher.commands.planned import (
    Planned,
    PlanRequest,
    compile_argv,
    files_to_bring,
    fitting,
    started_with,
)
from launcher.deployment.address import check_exposure, check_start
from launcher.deployment.install.containers import (
    KUBERNETES_GPUS,
    compose_file,
    dns_name,
    image_of,
    kubernetes_manifest,
    pod_of,
    preparations,
)
from launcher.deployment.install.export import (
    Export,
    Format,
    gateway_unit,
    shell_script,
    systemd_unit,
    with_key_check,
)
from launcher.deployment.install.ranks import (
    Ranks,
    lws_manifest,
    lws_of,
    pod_template_of,
    sbatch_script,
    skypilot_task,
)
from launcher.deployment.install.systemd import InstalledUnit, has_bus, install_unit, uninstall_unit
from launcher.deployment.record import Deployment, deployment_name
from launcher.deployment.records import find_record, name_or_only, require_record
from launcher.deployment.supervisor.protect import memory_max
from launcher.deployment.takedown import take_down
from launcher.engine.find import read_engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.taskset import split_taskset
from launcher.errors import DoesNotFit, TryAgain, UsageError
from launcher.gguf.file_names import shard_name
from launcher.machine.fleet import FleetEntry
from launcher.models.located import Located, UnreachableFiles
from launcher.plan.amounts import HOST, RAM
from launcher.plan.placement.group.members import PORT, endpoint_of
from launcher.plan.placement.group.values import class_of
from launcher.system.settings import read_settings

# Where containers see the files of a server, each under a number of its own: names may be the same.
_MODELS = "/models"

_OF_RANKS = (Format.LWS, Format.SBATCH, Format.SKYPILOT)

GATEWAY = "gateway"  # the name of its unit
_KEPT = ("LAUNCHER_", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A machine that is not here: where its files will lie, and who asks its server."""

    folder: str = "/srv/models"
    port: int = 8080
    host: str = "127.0.0.1"
    api_key_file: str | None = None


def export(name: str | None, format_: Format, image: str | None = None) -> str:
    """Write a deployment's server for elsewhere. Raises NotFound, UsageError."""
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    return _written(_export_of(entry), format_, image)


def export_plan(
    here: Here, request: PlanRequest, place: Elsewhere, format_: Format, image: str | None = None
) -> str:
    """Write the server that is planned for a machine that is not here. Raises DoesNotFit, UsageError."""
    key = None if place.api_key_file is None else Path(place.api_key_file)
    check_exposure(place.host, key)
    return _written(_export_of_plan(plan_model(here, request), place), format_, image)


def export_split(
    here: Here,
    request: PlanRequest,
    machines: Sequence[FleetEntry],
    place: Elsewhere,
    format_: Format,
    image: str | None = None,
) -> str:
    """Write a model that is split over equal machines. Raises DoesNotFit, UsageError."""
    check_exposure(place.host, None if place.api_key_file is None else Path(place.api_key_file))
    if format_ not in _OF_RANKS:
        raise UsageError(
            f"export {format_} is for one machine, and {len(machines)} are named",
            hint="launcher export lws, sbatch or skypilot",
        )
    cluster = plan_fleet(here, request, machines)
    planned, members = cluster.planned, cluster.split
    if not members and cluster.machines:
        raise UsageError(
            "one machine holds the model: nothing is split",
            hint="name one --machine; start it as often as wanted",
        )
    if planned is None or not members:
        raise DoesNotFit(f"{request.ref} fits on none of {len(machines)} machines, nor split over them")
    if len({class_of(member.machine) for member in members}) > 1:
        raise UsageError("a scheduler's nodes are alike, and these are not", hint="name equal machines")
    server = _export_of_plan(planned, place)
    given = ",".join(device.id for device in members[1].given)
    ports = tuple(int(endpoint_of(number).rpartition(":")[2]) for number in range(len(members) - 1))
    own = {device.id for device in members[0].machine.devices}
    alone = replace(server, devices=tuple(device for device in server.devices if device in own))
    ranks = replace(
        _ranks_of(alone, image),
        n_gpus=len(members[0].machine.devices),
        nodes=len(members),
        others=("ggml-rpc-server", "-H", "127.0.0.1", "-p", str(PORT), "-d", given),
        tunnels=ports,
        tunnel_port=PORT,
    )
    return written_ranks(ranks, format_)


def _ranks_of(server: Export, image: str | None) -> Ranks:
    kinds = [name for name in KUBERNETES_GPUS for device in server.devices if device.startswith(name)]
    given = tuple(f"{name}={value}" for name, value in server.env)
    head = with_key_check(server.argv)
    return Ranks(
        name=server.name,
        model_id=server.model_id,
        nodes=1,
        head=("env", *given, *head) if given else head,
        port=server.port,
        host_bytes=server.limit_bytes or server.host_bytes,
        gpu_kind=kinds[0] if kinds else None,
        gpu_name=server.gpu_name,
        n_gpus=len(server.devices),
        image=image or image_of(server),
    )


def written_ranks(ranks: Ranks, format_: Format) -> str:
    """Write ranks for their scheduler."""
    match format_:
        case Format.LWS:
            return lws_manifest(ranks)
        case Format.SBATCH:
            return sbatch_script(ranks)
        case _:
            return skypilot_task(ranks)


def _export_of_plan(planned: Planned, place: Elsewhere) -> Export:
    """Return the server of a plan, with its files in a folder there. Raises DoesNotFit, UsageError."""
    outcome, _ = fitting(planned)
    there = _paths_in_folder(files_to_bring(planned), place.folder)
    model, *companions = (shards[0] for shards in there)
    serving = Serving(
        host=place.host,
        port=place.port,
        model_id=planned.target.model_id,
        model_path=model,
        api_key_file=place.api_key_file,
    )
    # its program is that machine's own
    started = replace(started_with(planned, list(map(Path, companions))), engine=None)
    argv = compile_argv(started, outcome, serving)
    host_bytes = sum(row.used_bytes for row in outcome.ledger if row.where == HOST)
    devices = outcome.placement.devices
    inside = tuple((path, f"{_MODELS}/{PurePosixPath(path).name}") for shards in there for path in shards)
    return Export(
        name=deployment_name(planned.target.model_id),
        model_id=planned.target.model_id,
        argv=argv,
        port=place.port,
        host_bytes=host_bytes,
        limit_bytes=memory_max(host_bytes, planned.machine.ram_bytes, n_devices=len(devices)),
        files=inside,
        inside=inside,
        devices=devices,
        build=planned.capabilities.version.tag if planned.capabilities else None,
        publish=place.host,
        api_key_file=place.api_key_file,
        gpu_name=next((device.name for device in planned.machine.devices), ""),
    )


def _paths_in_folder(located: Sequence[Located], folder: str) -> list[list[str]]:
    """Return where the shards of each file will lie. Raises UsageError if two have one name, TryAgain."""
    there = [
        [f"{folder.rstrip('/')}/{PurePosixPath(name).name}" for name in _shard_names(each)]
        for each in located
    ]
    paths = [path for shards in there for path in shards]
    doubled = next((path for path in paths if paths.count(path) > 1), None)
    if doubled is not None:
        name = PurePosixPath(doubled).name
        raise UsageError(f"two files of the model are called {name}", hint="rename one of them")
    return there


def _shard_names(located: Located) -> tuple[str, ...]:
    """Return how the files of the model are called. Raises TryAgain if only its repo could tell."""
    files = located.files
    if not isinstance(files, UnreachableFiles):
        return tuple(shard.name for shard in located.model.shards)
    if not files.is_name_known:
        raise TryAgain(
            f"a server names its files, and how those of {files.repo} are called is not known: {files.cause}",
            hint="run it again where the Hub can be asked, or name a .gguf that is here",
        )
    first = shard_name(files.file)
    return (files.file,) if first is None else first.all_names()


def _written(server: Export, format_: Format, image: str | None) -> str:
    match format_:
        case Format.SYSTEMD:
            return systemd_unit(server)
        case Format.SHELL:
            return shell_script(server)
        case Format.COMPOSE:
            return compose_file(server, image)
        case Format.KUBERNETES:
            return kubernetes_manifest(server, image)
        case Format.LWS:
            name = dns_name(server.name)
            group = pod_template_of(name, pod_of(server, image))
            return preparations(server) + lws_of(name, group, server.port)
        case Format.SBATCH | Format.SKYPILOT:
            return written_ranks(_ranks_of(server, image), format_)


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
    text = systemd_unit(_export_of(entry, ready=ready), system=system)
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


def _export_of(entry: Deployment, ready: tuple[str, ...] | None = None) -> Export:
    check_start(entry.argv)
    options = entry.options
    used = int(options.claim.get(RAM) or entry.planned_bytes.get(HOST) or 0)
    files, inside = _files_of(entry)
    return Export(
        name=entry.name,
        model_id=entry.model_id,
        argv=entry.argv,
        port=entry.port,
        host_bytes=used,
        limit_bytes=options.memory_bytes,
        files=files,
        inside=inside,
        devices=() if entry.plan is None else entry.plan.placement.devices,
        uuids=tuple(options.devices.items()),
        build=_installed_build(Path(entry.engine_path)),
        publish=entry.host,
        user=f"{os.getuid()}:{os.getgid()}" if os.getuid() else None,
        api_key_file=entry.api_key_file,
        env=tuple(sorted(options.env.items())),
        secrets=options.secrets,
        ready=ready,
    )


_Pairs = tuple[tuple[str, str], ...]


def _files_of(entry: Deployment) -> tuple[_Pairs, _Pairs]:
    """Return the files that a container has to see, and what the paths of the command line are inside.

    The model, and what else the line names: companions, adapters, templates. Links are followed: what the
    Hub's cache has under a name lies elsewhere.
    """
    words = split_taskset(entry.argv)[1][1:]
    named = dict.fromkeys([entry.model_path, *(path for word in words for path in _paths_in(word))])
    named.pop(entry.api_key_file or "", None)
    files: list[tuple[str, str]] = []
    inside: list[tuple[str, str]] = []
    for number, path in enumerate(named):
        first = PurePosixPath(path)
        inside.append((path, f"{_MODELS}/{number}/{first.name}"))
        shards = shard_name(first.name)
        names = (first.name,) if shards is None else shards.all_names()
        for name in names:
            real = os.path.realpath(first.parent / name)
            files.append((real, f"{_MODELS}/{number}/{name}"))
    return tuple(files), tuple(inside)


def _paths_in(word: str) -> list[str]:
    # FILE, FILE:SCALE, or several of them by commas (common/arg.cpp)
    pieces = [piece for part in word.split(",") for piece in (part, part.rpartition(":")[0])]
    return [piece for piece in pieces if piece.startswith("/") and Path(piece).is_file()]


def _installed_build(program: Path) -> str | None:
    record = read_engine(program.resolve().parent)
    return record.build.version if record is not None and record.build is not None else None
