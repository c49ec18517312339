"""Write a deployment's server for elsewhere, with its files as they lie."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from launcher.commands.export.written import MODELS, written
from launcher.deployment.address import check_start
from launcher.deployment.install.export import (
    Export,
    Format,
)
from launcher.deployment.record import Deployment
from launcher.deployment.records import name_or_only, require_record
from launcher.engine.find import read_engine
from launcher.engine.flags.taskset import split_taskset
from launcher.gguf.file_names import shard_name
from launcher.plan.amounts import HOST, RAM
from launcher.system.settings import read_settings

_Pairs = tuple[tuple[str, str], ...]


def export(name: str | None, format_: Format, image: str | None = None) -> str:
    """Write a deployment's server for elsewhere. Raises NotFound, UsageError."""
    folder = read_settings().deployments_dir
    entry = require_record(folder, name_or_only(folder, name))
    return written(server_of(entry), format_, image)


def server_of(entry: Deployment, ready: tuple[str, ...] | None = None) -> Export:
    """Return a deployment's server, with the files it is started with; `ready` waits until it answers."""
    check_start(entry.argv)
    options = entry.options
    used = int(options.claim.get(RAM) or entry.planned_bytes.get(HOST) or 0)
    files, inside = files_of(entry)
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


def files_of(entry: Deployment) -> tuple[_Pairs, _Pairs]:
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
        inside.append((path, f"{MODELS}/{number}/{first.name}"))
        shards = shard_name(first.name)
        names = (first.name,) if shards is None else shards.all_names()
        for name in names:
            real = os.path.realpath(first.parent / name)
            files.append((real, f"{MODELS}/{number}/{name}"))
    return tuple(files), tuple(inside)


def _paths_in(word: str) -> list[str]:
    # FILE, FILE:SCALE, or several of them by commas (common/arg.cpp)
    pieces = [piece for part in word.split(",") for piece in (part, part.rpartition(":")[0])]
    return [piece for piece in pieces if piece.startswith("/") and Path(piece).is_file()]


def _installed_build(program: Path) -> str | None:
    record = read_engine(program.resolve().parent)
    return record.build.version if record is not None and record.build is not None else None
