"""Write hollow copies of models: llama.cpp loads them with all weights zero."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from launcher.errors import TryAgain, UsageError
from launcher.gguf.hollow import HollowFile, hollow_copy
from launcher.gguf.model import Shard
from launcher.models.located import Located
from launcher.system.atomic_files import replacing
from launcher.units import MIB, format_bytes

_HOLE_PROBE_BYTES = 16 * MIB
_BLOCK = 512  # st_blocks counts in these, whatever the file system's own block size (POSIX stat)


def write_hollow(located: Located, folder: Path) -> tuple[Path, ...]:
    """Write each shard as its real header and a hole up to its true size; return the paths.

    Raises BadGguf if headers do not fit the sizes, UsageError or TryAgain if the file system cannot hold
    them.
    """
    shards, headers = located.model.shards, located.model.headers
    parts = zip(shards, headers, located.raw_headers, strict=True)
    hollow = [(shard.name, hollow_copy(header, raw, shard.size_bytes)) for shard, header, raw in parts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_without_holes(folder, shards)
        return tuple(_write_one_hollow(folder, name, file) for name, file in hollow)
    except OSError as error:
        if error.errno == errno.EFBIG:
            largest = max(shard.size_bytes for shard in located.model.shards)
            raise UsageError(
                f"the file system of {folder} has no files of {format_bytes(largest)}",
                hint="set XDG_CACHE_HOME to a folder on ext4, xfs, btrfs or tmpfs",
            ) from error
        raise TryAgain(
            f"a hollow copy of {located.model.model_id} cannot be written to {folder}: {error.strerror}",
            hint=f"free space and check the rights of {folder}",
        ) from error


def _write_one_hollow(folder: Path, name: str, hollow: HollowFile) -> Path:
    path = folder / PurePosixPath(name).name
    with replacing(path) as file:
        file.write(hollow.content)
        file.truncate(hollow.size_bytes)
    return path


def _refuse_without_holes(folder: Path, shards: Sequence[Shard]) -> None:
    # FAT and some network file systems do: 584 GB of zeros for Kimi.
    if sum(shard.size_bytes for shard in shards) <= _HOLE_PROBE_BYTES:
        return
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.truncate(_HOLE_PROBE_BYTES)
        os.fsync(probe.fileno())
        used = os.fstat(probe.fileno()).st_blocks * _BLOCK
    if used >= _HOLE_PROBE_BYTES // 2:
        raise UsageError(
            f"the file system of {folder} has no holes: a hollow model would take"
            f" {format_bytes(sum(shard.size_bytes for shard in shards))} there",
            hint="set XDG_CACHE_HOME to a folder on ext4, xfs, btrfs or tmpfs",
        )
