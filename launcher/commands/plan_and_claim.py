"""Plan in memory that nobody has reserved, and reserve what the plan takes, before another launcher plans."""

from __future__ import annotations

import os

from launcher.commands.claims import claim, claim_rows, read_reserved, without_reserved
from launcher.commands.here import Here
from launcher.commands.plan import plan_on
from launcher.commands.planned import Planned, PlanRequest
from launcher.commands.probe import probe
from launcher.deployment import claims
from launcher.deployment.reserved import Reserved
from launcher.engine.find import Engine
from launcher.models.catalogue import Target
from launcher.progress import remark


def plan_and_claim(
    here: Here, request: PlanRequest, target: Target, engine: Engine, claimed: tuple[str, str]
) -> tuple[Planned, Reserved]:
    """Return the outcome, reserved as `claimed` (key, name) if it fits, and what others reserve."""
    key, name = claimed
    waiting = remark(
        "claims", f"another launcher plans on this machine: waiting, at most {claims.WAIT_S:.0f} s"
    )
    with claims.hold_planning_lock(here.settings.claims_dir, on_wait=lambda: here.on_progress(waiting)):
        reserved = read_reserved(here, but_not=key)
        machine = without_reserved(probe(here, engine=engine), reserved.rows)
        planned = plan_on(here, request, target, machine, engine)
        if planned.plan is not None:
            claim(here, key, name, claim_rows(planned.plan, machine), os.getpid())
    return planned, reserved
