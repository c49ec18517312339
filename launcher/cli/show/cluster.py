"""The machines of a cluster as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import grid
from launcher.commands.cluster.membership import NodeAnswer
from launcher.units import format_bytes


def render_nodes(nodes: Iterable[NodeAnswer]) -> RenderableType:
    """Lay out a row for each machine: where it is, and what is free there."""
    seen = tuple(nodes)
    notes = [Text(f"{each.name}: {each.problem}") for each in seen if each.problem]
    if len(seen) == 1:
        notes.append(Text("no other machine: launcher cluster add user@host"))
    headers = ("name", "ssh", "state", "GPUs", "free on GPUs", "free RAM")
    return Group(grid(headers, map(_row, seen), right=frozenset(headers[4:])), *notes)


def node_json(seen: NodeAnswer) -> dict[str, Any]:
    """Return a machine as `cluster ls --json` lists it."""
    described = seen.description
    return {
        "name": seen.name,
        "ssh": None if seen.node is None else seen.node.remote.target,
        "state": _state(seen),
        "problem": seen.problem,
        "engine_sha256": None if described is None else described.engine_sha256,
        "machine": None if described is None else described.machine,
    }


def _state(seen: NodeAnswer) -> str:
    if seen.description is None:
        return "away"
    return "draining" if seen.node is not None and seen.node.draining else "ready"


def _row(seen: NodeAnswer) -> tuple[str, ...]:
    ssh = "" if seen.node is None else seen.node.remote.target
    if seen.description is None:
        return (seen.name, ssh, _state(seen), "", "", "")
    machine = seen.description.machine
    free = [device.free_bytes for device in machine.devices if device.free_bytes is not None]
    return (
        seen.name,
        ssh,
        _state(seen),
        ", ".join(device.id for device in machine.devices) or "none",
        format_bytes(sum(free)) if free else "",
        format_bytes(machine.ram_available_bytes),
    )
