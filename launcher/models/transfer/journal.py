"""Record which units of a partial file are here, across `kill -9` and power loss."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.system.atomic_files import replacing
from launcher.system.json_object import JsonObject, Malformed, parse_json

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def journal_path(partial_path: Path) -> Path:
    return partial_path.with_name(partial_path.name + ".journal")


def boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Journal:
    """A journal file beside a partial file."""

    # The first line is JSON: what the partial file is to become, and the boot. Then one line a unit: `w 7`
    # once its bytes are written, `s 7` once they are on the disk. Written bytes survive the process but not
    # the machine, so `w` counts only in the boot that wrote it. A torn last line counts as absent.
    def __init__(
        self, path: Path, about: dict[str, str | int], whole: Collection[int], synced: Collection[int]
    ):
        """Write the journal anew, synced, with the units known to be here."""
        lines = [json.dumps({**about, "boot": boot_id()})]
        lines += [f"{'s' if unit in synced else 'w'} {unit}" for unit in sorted(whole)]
        with replacing(path, lasting=True) as file:
            file.write(("\n".join(lines) + "\n").encode())
        sync_folder(path.parent)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def written(self, units: Iterable[int]) -> None:
        os.write(self._descriptor, "".join(f"w {unit}\n" for unit in units).encode())

    def synced(self, units: Iterable[int]) -> None:
        """Record, durably, units whose bytes the caller has synced."""
        os.write(self._descriptor, "".join(f"s {unit}\n" for unit in units).encode())
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """The units that can be relied on now."""

    whole: frozenset[int] = frozenset()
    synced: frozenset[int] = frozenset()  # those of `whole` that are on the disk
    version: str = ""  # the server's word for the file's content


def read_journal(path: Path, about: dict[str, str | int]) -> JournalContents:
    """Read a journal; empty if unreadable, or if its first line differs from `about`."""
    try:
        first, *lines = path.read_text().split("\n")[:-1]  # without a torn last line
        known = parse_json(first)
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


def arrived_bytes(partial_path: Path) -> int:
    """Return the bytes of a partial file that its journal vouches for."""
    try:
        about = JsonObject(_about(partial_path))
        size, unit = about.whole("size"), about.whole("unit")
    except Malformed:
        return 0
    whole = read_journal(journal_path(partial_path), {}).whole
    return sum(max(0, min(unit, size - number * unit)) for number in whole)


def recorded_identity(partial_path: Path) -> str | None:
    """Return what the partial file is to become; None without a journal."""
    identity = _about(partial_path).get("identity")
    return identity if isinstance(identity, str) else None


def _about(partial_path: Path) -> dict[str, Any]:
    try:
        with journal_path(partial_path).open() as file:
            about = parse_json(file.readline())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def sync_folder(folder: Path) -> None:
    # puts a rename in the folder on the disk
    with contextlib.suppress(OSError):  # some file systems cannot, and need not
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
