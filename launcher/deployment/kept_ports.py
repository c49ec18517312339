"""Remember the port of every deployment that chose none, so that it has the same one at its next start."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from launcher.deployment.ports import check_port, free_port
from launcher.deployment.record import check_name
from launcher.errors import LauncherError
from launcher.system.atomic_files import write_atomically
from launcher.system.owned_files import read_file

_SUFFIX = ".port"
_MOST_BYTES = 16
_LOWEST, _HIGHEST = 1024, 65535  # free ports are above; what a file says may be anything


def choose_port(folder: Path, name: str, host: str, live: Collection[int]) -> int:
    """Return the port the deployment had last if that is free, else another that is free.

    Raises as `free_port`.
    """
    last = kept_port(folder, name)
    if last is not None and last not in live:
        with contextlib.suppress(LauncherError):
            check_port(host, last)
            return last
    others = {
        port for path in folder.glob(f"*{_SUFFIX}") if path.stem != name and (port := _read(path)) is not None
    }
    return free_port(host, {*live, *others})


def kept_port(folder: Path, name: str) -> int | None:
    return _read(_path(folder, name))


def keep_port(folder: Path, name: str, port: int) -> None:
    """Remember the port; without a place for it, the next start has another."""
    if kept_port(folder, name) != port:
        with contextlib.suppress(OSError):
            write_atomically(_path(folder, name), f"{port}\n".encode())


def _path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}{_SUFFIX}"


def _read(path: Path) -> int | None:
    try:
        text = read_file(path, _MOST_BYTES)[0].decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() and _LOWEST <= int(text) <= _HIGHEST else None
