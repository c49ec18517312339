"""Start and join a cluster by Ray, leave it, and look at its machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.commands.cluster.describe import Description, read_description
from launcher.commands.here import Here
from launcher.deployment.cluster.ray_node import (
    RayNode,
    address_towards,
    check_token,
    end_ray_node,
    make_token,
    own_addresses,
    read_ray_node,
    start_ray_node,
)
from launcher.deployment.cluster.ray_peers import RayPeer, ask_ray_peers, check_ray
from launcher.deployment.cluster.ray_start import RayPlace, check_addresses
from launcher.errors import LauncherError, UsageError
from launcher.progress import remark
from launcher.system.json_object import Malformed, parse_json
from launcher.system.locks import exclusive
from launcher.system.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RayAnswer:
    """A machine that Ray leads to as it answers now, or why it does not."""

    address: str
    description: Description | None
    problem: str | None


def start_cluster(here: Here, address: str | None, port: int, *, is_public: bool) -> RayNode:
    """Start the head of a cluster on this machine. Raises UsageError, TryAgain."""
    check_ray()
    token_file = here.settings.state_dir / "ray.token"
    bind = address or _only_address()
    place = RayPlace(address=bind, head=bind, port=port)
    check_addresses(place, own_addresses(), is_public=is_public)
    make_token(token_file)
    check_token(token_file)
    return _start(here.settings, place, token_file)


def join_cluster(here: Here, host: str, port: int, token_file: Path, *, is_public: bool) -> RayNode:
    """Take this machine into the cluster whose head is on `host`. Raises NotAllowed, TryAgain, UsageError."""
    check_ray()
    check_token(token_file)
    place = RayPlace(address=address_towards(host, port), head=host, port=port)
    if place.is_head:
        raise UsageError(f"{host} is this machine, where the cluster was started", hint="launcher cluster ls")
    check_addresses(place, own_addresses(), is_public=is_public)
    return _start(here.settings, place, token_file.absolute())


def leave_ray(settings: Settings) -> RayNode:
    """End this machine's own Ray, by its pid. What runs here goes on: a supervisor owns it."""
    file = _file(settings)
    with exclusive(file.with_suffix(".lock")):
        node = read_ray_node(file)
        if node is None:
            raise UsageError("this machine is in no cluster by Ray", hint="launcher cluster ls")
        end_ray_node(file, node)
    return node


def look_by_ray(here: Here) -> tuple[RayAnswer, ...]:
    """Ask the other machines that Ray leads to; none where this one is in no such cluster."""
    node = read_ray_node(_file(here.settings))
    if node is None:
        return ()
    try:
        if not node.is_up:
            raise UsageError("this machine's Ray has ended: launcher cluster leave, and join again")
        return tuple(_answer(peer) for peer in ask_ray_peers(node, ("cluster", "node", "--json")))
    except LauncherError as error:  # machines by ssh are listed all the same
        here.on_progress(remark("cluster", f"machines by Ray are left out: {error.message}"))
        return ()


def _file(settings: Settings) -> Path:
    return settings.state_dir / "ray.json"


def _start(settings: Settings, place: RayPlace, token_file: Path) -> RayNode:
    file = _file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(file.with_suffix(".lock")):
        before = read_ray_node(file)
        if before is not None and before.is_up:
            head = f"{before.place.head}:{before.place.port}"
            raise UsageError(f"this machine is in the cluster of {head}", hint="launcher cluster leave")
        if before is not None:
            end_ray_node(file, before)
        return start_ray_node(file, place, token_file)


def _only_address() -> str:
    found = [each for each in own_addresses() if not each.startswith("127.") and ":" not in each]
    if len(found) != 1:
        has = "has no address but loopback" if not found else f"has several addresses: {', '.join(found[:8])}"
        raise UsageError(f"this machine {has}", hint="launcher cluster start --bind ADDRESS")
    return found[0]


def _answer(peer: RayPeer) -> RayAnswer:
    if peer.answer is None:
        return RayAnswer(address=peer.address, description=None, problem=peer.problem)
    try:
        described = read_description(parse_json(peer.answer), peer.address)
    except (Malformed, LauncherError) as error:
        return RayAnswer(address=peer.address, description=None, problem=str(error))
    return RayAnswer(address=peer.address, description=described, problem=None)
