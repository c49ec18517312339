"""Keep which of the engines here is used, and those that were used before it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from launcher.system.atomic_files import replacing
from launcher.system.json_object import JsonObject, parse_json
from launcher.system.locks import exclusive
from launcher.system.small_files import read_small_text

_FILE = "default.json"
_FORMAT = 1
_MOST_BEFORE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultEngine:
    """The engine that somebody has chosen, by its folder's name."""

    name: str
    before: tuple[str, ...] = ()  # the last one last


def read_default(engines_dir: Path) -> DefaultEngine | None:
    """Return the choice; None if there is none, or none that can be read."""
    try:
        given = JsonObject(parse_json(read_small_text(engines_dir / _FILE)))
        if given.whole("format") != _FORMAT:
            return None
        name, before = given.text("name"), given.texts("before")
    except (OSError, ValueError):
        return None
    names = (name, *before)
    # a name is joined to a folder
    if any(not each or "/" in each or each.startswith(".") or len(each) > 200 for each in names):
        return None
    return DefaultEngine(name=name, before=tuple(before))


def choosing(engines_dir: Path) -> AbstractContextManager[int]:
    """Hold the lock of the choice, which is read and written inside the block. Raises OSError."""
    return exclusive(engines_dir / ".locks" / "default")


def write_default(engines_dir: Path, name: str, *, before: str | None = None) -> DefaultEngine:
    """Choose the engine of this name; `before` is the one used until now. Raises OSError."""
    known = read_default(engines_dir)
    earlier = [each for each in (known.before if known else ()) if each not in {name, before}]
    if before is not None and before != name:
        earlier.append(before)
    chosen = DefaultEngine(name=name, before=tuple(earlier[-_MOST_BEFORE:]))
    document = {"format": _FORMAT, "name": chosen.name, "before": chosen.before}
    with replacing(engines_dir / _FILE, lasting=True) as file:
        file.write(json.dumps(document).encode())
    return chosen


def drop_default(engines_dir: Path) -> None:
    """Choose none: the best for this machine is used. Raises OSError."""
    (engines_dir / _FILE).unlink(missing_ok=True)
