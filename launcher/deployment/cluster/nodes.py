"""Keep the machines that this user's launcher knows, in one file for its owner alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.deployment.cluster.remote import Remote, read_remote, remote_json
from launcher.errors import NotFound, UsageError
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.locks import exclusive
from launcher.system.owned_files import check_unchangeable, read_file

HERE = "here"  # the name of the machine that this launcher runs on

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_SCHEMA = 1
_MOST_NODES = 1024
_MOST_BYTES = 64 << 20
MOST_MACHINE = 256 << 10  # characters: 16 GPUs and 1024 NUMA nodes take less


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster."""

    name: str
    remote: Remote
    machine: str  # as it was last seen, in the form of `probe --save`
    engine_sha256: str | None
    draining: bool = False  # nothing new is placed there
    zone: str = ""  # machines that fail together


def check_node_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name == HERE:
        raise UsageError(
            f"{name[:80]!r} is no name for a machine: letters, digits, '.' and '-', and not {HERE!r}",
            hint="launcher cluster add user@host --name box",
        )
    return name


def check_zone(zone: str) -> str:
    if zone and not _NAME.fullmatch(zone):
        raise UsageError(
            f"{zone[:80]!r} is no name for a zone: letters, digits, '.' and '-'",
            hint="launcher cluster add user@host --zone rack-1",
        )
    return zone


def read_nodes(file: Path) -> tuple[Node, ...]:
    """Return the nodes, by name. Raises UsageError for a file that cannot be read."""
    try:
        check_unchangeable(file)  # ssh's config file and a program are in it
        content, _ = read_file(file, _MOST_BYTES)
        document = JsonObject(parse_json(content))
        document.whole("schema", _SCHEMA, _SCHEMA)
        nodes = [_node(each) for each in document.objects_at("nodes")]
    except FileNotFoundError:
        return ()
    except (OSError, Malformed) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file} cannot be read: {problem}", hint=f"mv {file} {file}.old") from error
    return tuple(sorted(nodes, key=lambda node: node.name))


def change_nodes(file: Path, change: Callable[[tuple[Node, ...]], tuple[Node, ...]]) -> tuple[Node, ...]:
    """Write what `change` makes of the nodes, under a lock. Raises UsageError, OSError."""
    with exclusive(file.with_suffix(".lock")):
        nodes = change(read_nodes(file))
        if len(nodes) > _MOST_NODES:
            raise UsageError(
                f"a cluster has at most {_MOST_NODES} machines", hint="launcher cluster leave NAME"
            )
        document = {"schema": _SCHEMA, "nodes": [_as_json(node) for node in nodes]}
        write_atomically(file, json.dumps(document, indent=1).encode())
    return nodes


def find_node(nodes: tuple[Node, ...], name: str) -> Node:
    """Return the node of that name, or ssh target. Raises NotFound."""
    by_target = {node.remote.target: node for node in nodes}
    by_name = {node.name: node for node in nodes}  # a name goes before another's target
    found = (by_target | by_name).get(name)
    if found is None:
        known = ", ".join(node.name for node in nodes) or "none"
        raise NotFound(
            f"no machine of the cluster is called {name[:80]!r}; there is {known}", hint="launcher cluster ls"
        )
    return found


def _as_json(node: Node) -> dict[str, object]:
    return {
        "name": node.name,
        **remote_json(node.remote),
        "machine": node.machine,
        "engine_sha256": node.engine_sha256,
        "draining": node.draining,
        "zone": node.zone,
    }


def _node(given: JsonObject) -> Node:
    name, machine = given.text("name"), given.text("machine")
    try:
        check_node_name(name)
        zone = check_zone(given.optional_text("zone") or "")
        remote = read_remote(given)
    except UsageError as error:
        raise Malformed(error.message) from error
    if len(machine) > MOST_MACHINE:
        raise given.malformed("machine", "is too long")
    return Node(
        name=name,
        remote=remote,
        machine=machine,
        engine_sha256=given.optional_text("engine_sha256"),
        draining=given.flag("draining"),
        zone=zone,
    )
