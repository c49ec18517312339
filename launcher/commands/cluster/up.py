"""Start a model on the cluster: here, whole on another machine, or over several with its head here."""

from __future__ import annotations

import os

from launcher.commands.claims import claim
from launcher.commands.cluster.place import plan_over_nodes
from launcher.commands.cluster.split import Machines, SplitPlan, rows_here, up_split, without_one
from launcher.commands.cluster.there import ClusterRequest, up_there
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.planned import fitting
from launcher.commands.up.request import UpRequest, look_up
from launcher.commands.up.up import up
from launcher.deployment import claims
from launcher.deployment.record import Deployment
from launcher.errors import DoesNotFit, UsageError
from launcher.progress import remark


def up_on_cluster(here: Here, cluster_request: ClusterRequest) -> Deployment:
    """Start the model where it fits, whole before split; return it, or the one that runs, once it answers.

    Raises DoesNotFit, and what its parts raise; afterwards nothing runs that did not run before.
    """
    request = cluster_request.request
    _check(request)
    target = opened_once(inspect(here, request.plan.ref, request.plan.quant))
    named = look_up(here, request, target.model_id)
    if named.running is not None:
        return named.running
    key = claims.claim_key(here.settings.deployments_dir, named.name)
    try:
        with claims.hold_planning_lock(here.settings.claims_dir):
            cluster, seen = plan_over_nodes(here, request.plan)
            splits: list[SplitPlan] = []
            if cluster.split and cluster.planned is not None:
                machines = Machines(seen=seen, members=cluster.split)
                splits = [
                    SplitPlan(planned=cluster.planned, machines=machines),
                    *without_one(here, request, cluster, seen),
                ]
                claim(here, key, named.name, rows_here(splits), os.getpid())
        if cluster.machines:
            chosen = cluster.quickest
            node = next(each.node for each in seen if each.name == chosen)
            if node is None:
                return up(here, request)
            here.on_progress(remark("cluster", f"{named.name} fits on {chosen}, and is started there"))
            return up_there(here, cluster_request, named, node)
        if splits:
            names = ", ".join(member.name for member in cluster.split)
            here.on_progress(remark("cluster", f"{named.name} is split over {names}"))
            return up_split(here, request, named, splits)
    except BaseException:
        claims.drop_claim(here.settings.claims_dir, key)
        raise
    if cluster.planned is not None:
        fitting(cluster.planned)  # says what is missing
    raise DoesNotFit(
        f"{target.model_id} fits neither whole nor split: "
        f"{', '.join(cluster.remarks) or 'no machine is there'}",
        hint=f"launcher plan {request.plan.ref} --cluster",
    )


def _check(request: UpRequest) -> None:
    """Raise UsageError for what a deployment of the cluster cannot have."""
    given = {
        "--host": request.host != UpRequest(plan=request.plan).host,
        "--api-key-file": request.api_key_file is not None,
        "-e": bool(request.env),
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{option} goes with no deployment of the cluster: it is reached through loopback",
                hint="launcher serve is the door for others, and asks for keys",
            )
