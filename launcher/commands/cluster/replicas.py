"""Start, and start again one after the other, the replicas of a model on machines of the cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.commands.cluster.membership import NodeAnswer, nodes_file
from launcher.commands.cluster.place import plan_over_nodes
from launcher.commands.cluster.stop import stop_elsewhere
from launcher.commands.cluster.there import ClusterRequest, up_there
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.plan_fleet import FleetPlan
from launcher.commands.restart import restart
from launcher.commands.up.request import look_up
from launcher.commands.up.up import up
from launcher.deployment import claims
from launcher.deployment.cluster.nodes import HERE, find_node, read_nodes
from launcher.deployment.cluster.ssh import ask_launcher
from launcher.deployment.record import Deployment, check_name, deployment_name
from launcher.deployment.records import require_record
from launcher.deployment.replicas import drained, find_replicas, replica_name
from launcher.deployment.takedown import take_down
from launcher.engine.client import is_loaded, read_metrics
from launcher.engine.key_file import read_api_key
from launcher.errors import DoesNotFit, LauncherError, TryAgain
from launcher.plan.placement.group.replicas import Holder, choose_holders
from launcher.progress import OnProgress, remark
from launcher.system.settings import Settings

_SEEN_S = 3.0  # a gateway looks at what runs every 2 s
_BUSY_S = 600.0  # so long a replica's requests are waited for
_LOAD_S = 6 * 3600.0
_LOOK_S = 0.25
_HEALTH_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasRequest:
    """How many replicas, and whether each has to be in a zone of its own."""

    cluster: ClusterRequest
    replicas: int
    one_a_zone: bool = False


def up_replicas(here: Here, wanted: ReplicasRequest) -> tuple[Deployment, ...]:
    """Start what is missing of the replicas, each whole on a machine of its own; return all of them.

    Raises DoesNotFit where machines are missing, and what its parts raise; afterwards nothing runs that did
    not run before.
    """
    request = wanted.cluster.request
    target = opened_once(inspect(here, request.plan.ref, request.plan.quant))
    model = check_name(request.name or deployment_name(target.model_id))
    folder = here.settings.deployments_dir
    standing = {each.name: each for each in find_replicas(folder, model)}
    numbers = range(1, wanted.replicas + 1)
    missing = [name for number in numbers if (name := replica_name(model, number)) not in standing]
    if missing:
        with claims.hold_planning_lock(here.settings.claims_dir):
            fleet, seen = plan_over_nodes(here, request.plan)
        chosen = _machines(fleet, seen, wanted, model, tuple(standing.values()), len(missing))
        started: list[str] = []
        try:
            for name, machine in zip(missing, chosen, strict=True):
                here.on_progress(remark("cluster", f"{name} is started on {machine.name}"))
                started.append(name)
                _start(here, wanted.cluster, (model, name), machine)
        except BaseException:
            _stop_all(here.settings, started)
            raise
    return find_replicas(folder, model)


def _machines(
    fleet: FleetPlan,
    seen: Sequence[NodeAnswer],
    wanted: ReplicasRequest,
    model: str,
    standing: Sequence[Deployment],
    n_missing: int,
) -> tuple[NodeAnswer, ...]:
    zones = {each.name: "" if each.node is None else each.node.zone for each in seen}
    holders = [
        Holder(name=name, turn_s=fleet.turn_s(name), zone=zones.get(name, "")) for name in fleet.machines
    ]
    there = [each.options.node or HERE for each in standing]
    taken = [Holder(name=name, turn_s=0.0, zone=zones.get(name, "")) for name in there]
    chosen = choose_holders(holders, n_missing, taken, one_a_zone=wanted.one_a_zone)
    if len(chosen) < n_missing:
        n_found = len(standing) + len(chosen)
        of = "zones with a machine that holds" if wanted.one_a_zone else "machines that hold"
        typed = f"launcher up {wanted.cluster.request.plan.ref} --cluster"
        raise DoesNotFit(
            f"{wanted.replicas} replicas of {model} take as many {of} it whole, and there are {n_found}",
            hint=f"{typed} --replicas {n_found}" if n_found else "launcher cluster ls",
        )
    by_name = {each.name: each for each in seen}
    return tuple(by_name[holder.name] for holder in chosen)


def _start(here: Here, cluster: ClusterRequest, names: tuple[str, str], machine: NodeAnswer) -> None:
    model, name = names
    request = replace(cluster.request, name=name, replica_of=model)
    if machine.node is None:
        up(here, request)
        return
    named = look_up(here, request, model)
    up_there(here, replace(cluster, request=request), named, machine.node)


def _stop_all(settings: Settings, names: Sequence[str]) -> None:
    folder = settings.deployments_dir
    for name in names:
        with contextlib.suppress(LauncherError):
            stop_elsewhere(settings, require_record(folder, name))
            take_down(folder, name)


def restart_replicas(settings: Settings, model: str, on_progress: OnProgress) -> tuple[Deployment, ...]:
    """Start each replica of the model again, one after the other, and each once its requests are answered.

    The gateway sends it no new ones meanwhile. Raises what `restart` and `ask_launcher` do, and TryAgain for
    one that does not answer afterwards; the others run on.
    """
    folder = settings.deployments_dir
    for entry in find_replicas(folder, model):
        on_progress(remark("cluster", f"{entry.name} takes no new requests"))
        with drained(folder, entry.name):
            time.sleep(_SEEN_S)
            _until_idle(entry)
            on_progress(remark("cluster", f"{entry.name} is started again"))
            _restart_one(settings, entry, on_progress)
    return find_replicas(folder, model)


def _restart_one(settings: Settings, entry: Deployment, on_progress: OnProgress) -> None:
    if entry.options.node is None:
        restart(entry.name, on_progress)
        return
    node = find_node(read_nodes(nodes_file(settings)), entry.options.node)
    ask_launcher(
        node.remote, ("restart", entry.name), limit_s=_LOAD_S
    )  # on the port that the tunnel leads to
    deadline = time.monotonic() + _HEALTH_S * 12
    while not is_loaded(entry.url, _HEALTH_S):
        if time.monotonic() > deadline:
            raise TryAgain(f"{entry.name} was started again, and does not answer", hint="launcher ps")
        time.sleep(_LOOK_S)


def _until_idle(entry: Deployment) -> None:
    key = read_api_key(entry.api_key_file)
    deadline = time.monotonic() + _BUSY_S
    while time.monotonic() < deadline:
        try:
            gauges = read_metrics(entry.url, api_key=key)
        except LauncherError:
            return  # it does not answer: nothing is lost by starting it again
        if not gauges.get("requests_processing") and not gauges.get("requests_deferred"):
            return
        time.sleep(_LOOK_S)
