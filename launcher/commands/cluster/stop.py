"""Stop the deployment on another machine that a record here leads to."""

from __future__ import annotations

from launcher.commands.cluster.membership import nodes_file
from launcher.deployment.cluster.nodes import read_nodes
from launcher.deployment.cluster.ssh import ask_launcher
from launcher.deployment.record import Deployment, UnreadableRecord
from launcher.errors import LauncherError
from launcher.system.settings import Settings


def stop_elsewhere(settings: Settings, entry: Deployment | UnreadableRecord | None) -> str | None:
    """Stop the deployment that the record leads to, if it does; return why it may run on."""
    if not isinstance(entry, Deployment) or entry.options.node is None:
        return None
    name = entry.options.node
    node = next((node for node in read_nodes(nodes_file(settings)) if node.name == name), None)
    if node is None:
        return f"{name} has left the cluster, and {entry.name} may run on there"
    try:
        ask_launcher(node.remote, ("stop", entry.name))
    except LauncherError as error:
        return f"{entry.name} may run on, on {name}: {error.message}"
    return None
