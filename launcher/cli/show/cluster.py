"""The machines of a cluster as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import grid
from launcher.commands.cluster.by_ray import RayAnswer
from launcher.commands.cluster.describe import Description
from launcher.commands.cluster.membership import NodeAnswer
from launcher.units import format_bytes


def render_nodes(nodes: Iterable[NodeAnswer], by_ray: Sequence[RayAnswer] = ()) -> RenderableType:
    """Lay out a row for each machine: where it is, and what is free there."""
    seen = tuple(nodes)
    notes = [Text(f"{each.name}: {each.problem}") for each in seen if each.problem]
    notes += [Text(f"{each.address}: {each.problem}") for each in by_ray if each.problem]
    if len(seen) == 1 and not by_ray:
        notes.append(Text("no other machine: launcher cluster add user@host"))
    headers = ("name", "by", "state", "GPUs", "free on GPUs", "free RAM")
    rows = (*map(_row, seen), *map(_ray_row, by_ray))
    return Group(grid(headers, rows, right=frozenset(headers[4:])), *notes)


def node_json(seen: NodeAnswer) -> dict[str, Any]:
    """Return a machine as `cluster ls --json` lists it."""
    return {
        "name": seen.name,
        "ssh": None if seen.node is None else seen.node.remote.target,
        "ray": None,
        "state": _state(seen),
        "problem": seen.problem,
        **_described(seen.description),
    }


def ray_node_json(seen: RayAnswer) -> dict[str, Any]:
    """Return a machine that Ray leads to as `cluster ls --json` lists it."""
    return {
        "name": seen.address,
        "ssh": None,
        "ray": seen.address,
        "state": "away" if seen.description is None else "ready",
        "problem": seen.problem,
        **_described(seen.description),
    }


def _described(described: Description | None) -> dict[str, Any]:
    return {
        "engine_sha256": None if described is None else described.engine_sha256,
        "machine": None if described is None else described.machine,
    }


def _state(seen: NodeAnswer) -> str:
    if seen.description is None:
        return "away"
    return "draining" if seen.node is not None and seen.node.draining else "ready"


def _row(seen: NodeAnswer) -> tuple[str, ...]:
    by = "" if seen.node is None else f"ssh {seen.node.remote.target}"
    return (seen.name, by, _state(seen), *_free(seen.description))


def _ray_row(seen: RayAnswer) -> tuple[str, ...]:
    return (seen.address, "Ray", "away" if seen.description is None else "ready", *_free(seen.description))


def _free(described: Description | None) -> tuple[str, str, str]:
    """Return GPUs, what is free on them, free RAM."""
    if described is None:
        return ("", "", "")
    machine = described.machine
    free = [device.free_bytes for device in machine.devices if device.free_bytes is not None]
    return (
        ", ".join(device.id for device in machine.devices) or "none",
        format_bytes(sum(free)) if free else "",
        format_bytes(machine.ram_available_bytes),
    )
