"""Plan a model over the machines of the cluster, with what is free there now."""

from __future__ import annotations

from launcher.commands.cluster.membership import NodeAnswer, look_at_all, members_of
from launcher.commands.here import Here
from launcher.commands.plan_fleet import FleetPlan, plan_members
from launcher.commands.planned import PlanRequest
from launcher.deployment.cluster.nodes import HERE
from launcher.errors import UsageError


def plan_over_nodes(here: Here, request: PlanRequest) -> tuple[FleetPlan, tuple[NodeAnswer, ...]]:
    """Return the plan, whole on single machines before a split, and the machines as they answered.

    A split has its head on this machine, whose supervisor keeps the tunnels. Raises UsageError if no other
    machine was added.
    """
    seen = look_at_all(here)
    if len(seen) == 1:
        raise UsageError("the cluster has no machine beside this one", hint="launcher cluster add user@host")
    return plan_members(here, request, members_of(seen), head=HERE), seen
