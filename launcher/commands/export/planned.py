"""Write the server of a plan for machines that are not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from launcher.commands.export.written import MODELS, OF_RANKS, ranks_of, written, written_ranks
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
from launcher.deployment.address import check_exposure
from launcher.deployment.install.export import (
    Export,
    Format,
)
from launcher.deployment.record import deployment_name
from launcher.deployment.supervisor.protect import memory_max
from launcher.engine.find import RPC_SERVER
from launcher.engine.flags.argv import Serving
from launcher.errors import DoesNotFit, TryAgain, UsageError
from launcher.gguf.file_names import shard_name
from launcher.machine.fleet import FleetEntry
from launcher.models.located import Located, UnreachableFiles
from launcher.plan.amounts import HOST
from launcher.plan.placement.group.members import LOOPBACK, PORT, endpoint_of
from launcher.plan.placement.group.values import class_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A machine that is not here: where its files will lie, and who asks its server."""

    folder: str = "/srv/models"
    port: int = 8080
    host: str = "127.0.0.1"
    api_key_file: str | None = None


def export_plan(
    here: Here, request: PlanRequest, place: Elsewhere, format_: Format, image: str | None = None
) -> str:
    """Write the server that is planned for a machine that is not here. Raises DoesNotFit, UsageError."""
    key = None if place.api_key_file is None else Path(place.api_key_file)
    check_exposure(place.host, key)
    return written(_server_of(plan_model(here, request), place), format_, image)


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
    if format_ not in OF_RANKS:
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
    server = _server_of(planned, place)
    given = ",".join(device.id for device in members[1].given)
    ports = tuple(int(endpoint_of(number).rpartition(":")[2]) for number in range(len(members) - 1))
    own = {device.id for device in members[0].machine.devices}
    alone = replace(server, devices=tuple(device for device in server.devices if device in own))
    ranks = replace(
        ranks_of(alone, image),
        n_gpus=len(members[0].machine.devices),
        nodes=len(members),
        others=(RPC_SERVER, "-H", LOOPBACK, "-p", str(PORT), "-d", given),
        tunnels=ports,
        tunnel_port=PORT,
    )
    return written_ranks(ranks, format_)


def _server_of(planned: Planned, place: Elsewhere) -> Export:
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
    inside = tuple((path, f"{MODELS}/{PurePosixPath(path).name}") for shards in there for path in shards)
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
