"""Read which machines a cluster has, from `--machine A --machine B` or a TOML file. Pure."""

# [[machine]]
# machine = "8xh100-80g"   # what --machine takes: a name or a file
# count = 5
# name = "box"             # box-1 to box-5; the default is `machine`
# zone = "a"               # machines that fail together
# domain = "rack1"         # machines with a fast network among them: a split stays in one

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.system.toml_table import TomlTable, parse_toml

MOST_MACHINES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEntry:
    """A machine of a cluster: `ref` says which hardware it has."""

    name: str
    ref: str
    zone: str = ""
    domain: str = ""


def fleet_of_refs(refs: Sequence[str]) -> tuple[FleetEntry, ...]:
    """Return a machine for each `--machine`."""
    return _named_apart([FleetEntry(name=_short(ref), ref=ref) for ref in refs])


def parse_fleet(text: str, file: str) -> tuple[FleetEntry, ...]:
    """Read `[[machine]]` tables; errors name the file. Raises UsageError."""
    top = parse_toml(text, file=file)
    entries: list[FleetEntry] = []
    for table in top.tables("machine"):
        entry, count = _read_machine(table)
        entries += [entry] * count
        if len(entries) > MOST_MACHINES:
            top.fail("machine", f"lists more than {MOST_MACHINES} machines")
    top.finish()
    if not entries:
        raise UsageError(f"{file} lists no machine", hint='write [[machine]] and machine = "8xh100-80g"')
    return _named_apart(entries)


def _read_machine(table: TomlTable) -> tuple[FleetEntry, int]:
    ref = table.text("machine")
    entry = FleetEntry(
        name=_short(table.optional_text("name") or ref),
        ref=ref,
        zone=table.optional_text("zone") or "",
        domain=table.optional_text("domain") or "",
    )
    count = table.optional_integer("count", 1, MOST_MACHINES) or 1
    table.finish()
    return entry, count


def _short(text: str) -> str:
    """Return a name that can be a host's in an endpoint."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", text.rpartition("/")[2].removesuffix(".toml")).lstrip("-.")
    return name[:64] or "machine"


def _named_apart(entries: Iterable[FleetEntry]) -> tuple[FleetEntry, ...]:
    entries = tuple(entries)
    total = Counter(entry.name for entry in entries)
    seen: Counter[str] = Counter()
    named = []
    for entry in entries:
        seen[entry.name] += 1
        name = entry.name if total[entry.name] == 1 else f"{entry.name}-{seen[entry.name]}"
        named.append(replace(entry, name=name))
    twice = [name for name, count in Counter(entry.name for entry in named).items() if count > 1]
    if twice:
        raise UsageError(f"two machines would be called {twice[0]}", hint="give each a name of its own")
    return tuple(named)
