"""Which units of a partial file are here, in a file beside it that survives `kill -9` and power loss.

The first line says what the partial file is to become. Then one line a unit: `w 7` once its bytes are written,
`s 7` once they are on the disk. Written bytes survive the process but not the machine, so `w` counts only in the
boot that wrote it. A torn last line counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.system.atomic_files import replacing

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def journal_path(part: Path) -> Path:
    return part.with_name(part.name + ".journal")


def boot_id() -> str:
    """Of the running system; empty where there is no telling."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Journal:
    """An open journal. Raises OSError as the disk does."""

    def __init__(
        self, path: Path, about: dict[str, str | int], whole: Collection[int], synced: Collection[int]
    ):
        """Begins the file anew with what is known, whole and on the disk before it is relied on."""
        lines = [json.dumps({**about, "boot": boot_id()})]
        lines += [f"{'s' if unit in synced else 'w'} {unit}" for unit in sorted(whole)]
        with replacing(path, lasting=True) as file:
            file.write(("\n".join(lines) + "\n").encode())
        sync_folder(path.parent)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def written(self, units: Iterable[int]) -> None:
        os.write(self._descriptor, "".join(f"w {unit}\n" for unit in units).encode())

    def synced(self, units: Iterable[int]) -> None:
        """The caller has synced their bytes before; the line itself is on the disk on return."""
        os.write(self._descriptor, "".join(f"s {unit}\n" for unit in units).encode())
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """What a journal says: the whole units, those of them that are on the disk, and the version of the file."""

    whole: frozenset[int] = frozenset()
    synced: frozenset[int] = frozenset()
    version: str = ""


def read_journal(path: Path, about: dict[str, str | int]) -> JournalContents:
    """Nothing where it is about something else than `about`, or cannot be read."""
    try:
        first, *lines = path.read_text().split("\n")[:-1]
        known = json.loads(first)
    except (OSError, ValueError):
        return JournalContents()
    if not isinstance(known, dict) or {key: known.get(key) for key in about} != about:
        return JournalContents()
    same_boot = known.get("boot") == boot_id() != ""
    units: dict[str, set[int]] = {"w": set(), "s": set()}
    for line in lines:
        kind, _, number = line.partition(" ")
        if kind in units and number.isdecimal():
            units[kind].add(int(number))
    synced = frozenset(units["s"])
    whole = synced | units["w"] if same_boot else synced
    return JournalContents(whole=whole, synced=synced, version=str(known.get("version", "")))


def arrived_bytes(part: Path) -> int:
    """How much of a partial file its journal vouches for."""
    about = _about(part)
    try:
        size, unit = int(about["size"]), int(about["unit"])
    except (ValueError, KeyError, TypeError):
        return 0
    whole = read_journal(journal_path(part), {}).whole
    return sum(max(0, min(unit, size - number * unit)) for number in whole)


def recorded_identity(part: Path) -> str | None:
    """What the partial file is to become, by its journal; None where there is no such journal."""
    identity = _about(part).get("identity")
    return identity if isinstance(identity, str) else None


def _about(part: Path) -> dict[str, Any]:
    """The first line of its journal; nothing where that cannot be read."""
    try:
        with journal_path(part).open() as file:
            about = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def sync_folder(folder: Path) -> None:
    """Make a rename in it last. Some file systems cannot; they need not be told either."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
