"""Add, list, drain and leave machines of the cluster, and look at all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands.cluster.describe import Description, describe_machine, read_description
from launcher.commands.here import Here
from launcher.deployment.cluster.nodes import (
    HERE,
    Node,
    change_nodes,
    check_node_name,
    check_zone,
    find_node,
    read_nodes,
)
from launcher.deployment.cluster.remote import Remote, check_target
from launcher.deployment.cluster.ssh import ask_launcher
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.errors import LauncherError, UsageError
from launcher.plan.placement.group.members import Member
from launcher.progress import remark
from launcher.system.settings import Settings

_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnswer:
    """A machine of the cluster as it answers now, or why it does not."""

    node: Node | None  # None: this machine
    description: Description | None
    problem: str | None = None

    @property
    def name(self) -> str:
        return HERE if self.node is None else self.node.name

    @property
    def engine_sha256(self) -> str | None:
        return None if self.description is None else self.description.engine_sha256

    @property
    def member(self) -> Member | None:
        """What can be planned with; None for a machine that is away or drains."""
        is_draining = self.node is not None and self.node.draining
        if self.description is None or is_draining:
            return None
        zone = "" if self.node is None else self.node.zone
        return Member(name=self.name, machine=self.description.machine, zone=zone)


def nodes_file(settings: Settings) -> Path:
    return settings.state_dir / "cluster.json"


def add_node(here: Here, remote: Remote, name: str | None, zone: str = "") -> NodeAnswer:
    """Ask the machine what it is, and remember it. Raises TryAgain, NotFound, UsageError."""
    check_target(remote.target)
    chosen = check_node_name(name or remote.target.rpartition("@")[2])
    file = nodes_file(here.settings)
    described = _ask(remote, chosen)
    node = Node(
        name=chosen,
        remote=remote,
        machine=described.text,
        engine_sha256=described.engine_sha256,
        zone=check_zone(zone),
    )

    def change(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        if any(other.remote.target == remote.target and other.name != chosen for other in nodes):
            known = next(other.name for other in nodes if other.remote.target == remote.target)
            raise UsageError(f"{remote.target} is {known} already", hint=f"launcher cluster leave {known}")
        return (*(other for other in nodes if other.name != chosen), node)

    change_nodes(file, change)
    return NodeAnswer(node=node, description=described)


def drain_node(here: Here, name: str, *, undo: bool = False) -> tuple[str, ...]:
    """Place nothing new on the machine; return the deployments of this launcher that are there."""
    found = find_node(read_nodes(nodes_file(here.settings)), name)

    def change(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(replace(node, draining=not undo) if node.name == found.name else node for node in nodes)

    change_nodes(nodes_file(here.settings), change)
    return _deployments_on(here.settings, found.name)


def leave(here: Here, name: str) -> Node:
    """Forget the machine. Raises UsageError while a deployment of this launcher is there."""
    found = find_node(read_nodes(nodes_file(here.settings)), name)
    if there := _deployments_on(here.settings, found.name):
        raise UsageError(f"{', '.join(there)} is on {found.name}", hint=f"launcher stop {' '.join(there)}")
    change_nodes(
        nodes_file(here.settings), lambda nodes: tuple(node for node in nodes if node.name != found.name)
    )
    return found


def look_at_all(here: Here) -> tuple[NodeAnswer, ...]:
    """Ask all machines at once what they have free now; this one comes first. Say which are away."""
    nodes = read_nodes(nodes_file(here.settings))

    def look(node: Node) -> NodeAnswer:
        try:
            return NodeAnswer(node=node, description=_ask(node.remote, node.name))
        except LauncherError as error:
            return NodeAnswer(node=node, description=None, problem=error.message)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = pool.map(look, nodes)
        own = NodeAnswer(node=None, description=describe_machine(here))
        seen = (own, *answers)
    for each in seen:
        if each.problem is not None:
            here.on_progress(remark("cluster", f"{each.name} is left out: {each.problem}"))
    return seen


def members_of(seen: Sequence[NodeAnswer]) -> tuple[Member, ...]:
    return tuple(member for each in seen if (member := each.member) is not None)


def _ask(remote: Remote, name: str) -> Description:
    return read_description(ask_launcher(remote, ("cluster", "node")), name)


def _deployments_on(settings: Settings, name: str) -> tuple[str, ...]:
    records = [entry for entry in read_all(settings.deployments_dir) if isinstance(entry, Deployment)]
    return tuple(each.name for each in records if name in {each.options.node, *each.options.nodes})
