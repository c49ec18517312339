"""Ask launchers on the nodes of Ray: connect, run a command there, disconnect."""

# No process that stays is a driver of Ray: Ray ends those 60 s after its head (tried).

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from launcher.deployment.cluster.ray_node import RayNode
from launcher.deployment.cluster.ray_start import INSTALL, ray_environment
from launcher.errors import TryAgain, UsageError
from launcher.units import one_line

_MOST_SAID = 300  # characters of an error
_MOST_BYTES = 4 << 20  # of an answer
_ASK_S = 60.0
_NAMESPACE = "launcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPeer:
    """A node of Ray, and what its launcher answered, or why it did not."""

    address: str
    is_up: bool
    answer: str | None
    problem: str | None


def check_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    if find_spec("ray") is None:  # not imported yet: it reads the environment once
        raise UsageError("Ray is not installed", hint=INSTALL)


def ask_ray_peers(node: RayNode, words: Sequence[str]) -> tuple[RayPeer, ...]:
    """Run a command of launcher on all nodes but this one, at once. Raises TryAgain, UsageError."""
    with _connected(node) as ray:
        others = [each for each in ray.nodes() if each["NodeManagerAddress"] != node.place.address]
        there = {each["NodeID"]: _begin(ray, each["NodeID"], words) for each in others if each["Alive"]}
        done, _ = (
            ray.wait(list(there.values()), num_returns=len(there), timeout=_ASK_S) if there else ([], [])
        )
        return tuple(_peer(ray, each, there.get(each["NodeID"]), done) for each in others)


def run_launcher(words: tuple[str, ...]) -> tuple[int, str, str]:
    """Run launcher on this machine, as a peer asked; return exit status, stdout and the end of stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ASK_S,
        check=False,
    )
    return done.returncode, done.stdout[:_MOST_BYTES], done.stderr[-_MOST_SAID:]


@contextmanager
def _connected(node: RayNode) -> Iterator[Any]:
    check_ray()
    os.environ.update(ray_environment(node.token_file))
    ray = import_module("ray")
    head = f"{node.place.head}:{node.place.port}"
    try:
        ray.init(
            address=head,
            namespace=_NAMESPACE,
            _node_ip_address=node.place.address,
            configure_logging=False,
            log_to_driver=False,
        )
    except Exception as error:  # Ray's own are of many kinds
        raise TryAgain(
            f"Ray at {head} cannot be reached: {one_line(str(error), _MOST_SAID)}",
            hint="launcher cluster leave, then launcher cluster join again",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _begin(ray: Any, node_id: str, words: Sequence[str]) -> Any:
    affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(run_launcher)
    return task.options(scheduling_strategy=affinity(node_id, soft=False)).remote(tuple(words))


def _peer(ray: Any, node: dict[str, Any], begun: Any, done: Sequence[Any]) -> RayPeer:
    address = one_line(str(node["NodeManagerAddress"]), 64)
    if begun is None:
        return RayPeer(address=address, is_up=False, answer=None, problem="Ray counts it as dead")
    if begun not in done:
        return RayPeer(address=address, is_up=True, answer=None, problem=f"no answer within {_ASK_S:.0f} s")
    try:
        status, out, err = ray.get(begun)
    except Exception as error:  # noqa: BLE001  # one peer's failure is that peer's, of whatever kind
        status, out, err = 1, "", str(error)
    if status != 0:
        last = one_line((err.strip().splitlines() or ["nothing said"])[-1], _MOST_SAID)
        return RayPeer(address=address, is_up=True, answer=None, problem=last)
    return RayPeer(address=address, is_up=True, answer=out, problem=None)
