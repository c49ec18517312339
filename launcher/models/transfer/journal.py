"""Record which units of a partial file are here, across `kill -9` and power loss."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.system.atomic_files import replacing, sync_folder
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.owned_files import Owner, open_file, read_file

_MOST_BYTES = 4 << 20  # two lines a unit of 8 MiB: of a file of 1 TB, 2.3 MB
_MOST_DIGITS = 12
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
        self._descriptor = open_file(path, os.O_WRONLY | os.O_APPEND, owner=Owner.FOLDERS)

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
    about: Mapping[str, object] = field(default_factory=dict)  # the first line


def read_journal(path: Path, about: Mapping[str, str | int]) -> JournalContents:
    """Read a journal; empty if unreadable, or if its first line differs from `about`."""
    contents = _read(path)
    return contents if {key: contents.about.get(key) for key in about} == about else JournalContents()


def parse_journal(content: bytes, boot: str) -> JournalContents:
    """Parse a journal, in this boot; empty if its first line is none of ours."""
    first, *lines = content.split(b"\n")[:-1] or [b""]  # without a torn last line
    try:
        about = parse_json(first)
    except Malformed:
        return JournalContents()
    if not isinstance(about, dict):
        return JournalContents()
    units: dict[bytes, set[int]] = {b"w": set(), b"s": set()}
    for line in lines:
        kind, _, number = line.partition(b" ")
        if kind in units and number.isdigit() and len(number) <= _MOST_DIGITS:
            units[kind].add(int(number))
    synced = frozenset(units[b"s"])
    whole = synced | units[b"w"] if about.get("boot") == boot != "" else synced
    version = about.get("version")
    return JournalContents(
        whole=whole, synced=synced, version=version if isinstance(version, str) else "", about=about
    )


def arrived_bytes(partial_path: Path) -> int:
    """Return the bytes of a partial file that its journal vouches for."""
    contents = _read(journal_path(partial_path))
    about = JsonObject(contents.about)
    try:
        size, unit = about.whole("size"), about.whole("unit")
    except Malformed:
        return 0
    return sum(max(0, min(unit, size - number * unit)) for number in contents.whole)


def recorded_identity(partial_path: Path) -> str | None:
    """Return what the partial file is to become; None without a journal."""
    identity = _read(journal_path(partial_path)).about.get("identity")
    return identity if isinstance(identity, str) else None


def _read(path: Path) -> JournalContents:
    try:
        content, _ = read_file(path, _MOST_BYTES, owner=Owner.FOLDERS)
    except OSError:
        return JournalContents()
    return parse_journal(content, boot_id())
