"""Start a model over several machines: its head here, a rank for each device of the others."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.commands.claims import by_memory
from launcher.commands.cluster.membership import NodeAnswer
from launcher.commands.cluster.there import ssh_env
from launcher.commands.here import Here
from launcher.commands.plan_fleet import FleetPlan, plan_split
from launcher.commands.planned import Planned, compile_argv, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.commands.up.request import Named, UpRequest, serving_of
from launcher.deployment.cluster.nodes import HERE, Node
from launcher.deployment.cluster.seats import GangLayout, GangSpec, RankPlace, RankSeat, format_spec
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.engine.find import Engine
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import NotFound, UsageError
from launcher.plan.amounts import HOST
from launcher.plan.from_json import stored
from launcher.plan.placement.group.members import Member, remote_places
from launcher.plan.placement.group.values import class_of
from launcher.plan.plan import Plan

_RUN_GANG = "launcher.deployment.cluster.run_gang"
_MOST_GANG_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The machines of a cluster as they answered, and those of them that the model is split over."""

    seen: tuple[NodeAnswer, ...]
    members: tuple[Member, ...]  # the head first

    def node(self, name: str) -> Node:
        found = next((each.node for each in self.seen if each.name == name), None)
        if found is None:
            raise NotFound(f"no machine of the cluster is called {name}", hint="launcher cluster ls")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """A plan of the model over several machines."""

    planned: Planned
    machines: Machines

    @property
    def plan(self) -> Plan:
        return fitting(self.planned)[0]


def up_split(here: Here, request: UpRequest, named: Named, splits: Sequence[SplitPlan]) -> Deployment:
    """Start the head here, which raises the ranks on its peers; return it once it answers.

    The first split is raised; the others are for when one of its machines is lost. Raises NotFound without an
    engine here, UsageError for a peer with another, and what `bring_up` raises.
    """
    planned, plan = splits[0].planned, splits[0].plan
    engine, known = _engine_of(planned)
    _check_engines(splits[0].machines, known.sha256)
    model, *_ = fetch_all(here, files_to_bring(planned), ("launcher", "pull", request.plan.ref))

    def spec_for(port: int) -> GangSpec:
        serving = serving_of(request, port, planned.target.model_id, str(model[0]))
        layouts = (
            GangLayout(
                seats=_seats(each.plan, each.machines, known.sha256),
                argv=tuple(compile_argv(each.planned, each.plan, serving)),
            )
            for each in splits
        )
        return GangSpec(name=_gang_name(here, named.name), engine_sha256=known.sha256, layouts=tuple(layouts))

    def argv_for(port: int) -> tuple[str, ...]:
        spec = spec_for(port)
        return (sys.executable, "-P", "-m", _RUN_GANG, format_spec(spec), "--", *spec.layouts[0].argv)

    env, agent = ssh_env(here)
    return bring_up(
        here.settings.deployments_dir,
        Request(
            name=named.name,
            model_id=planned.target.model_id,
            model_path=model[0],
            model_bytes=plan.size_bytes,
            stored_plan=stored(plan),
            plan_hash=named.request_hash,
            argv_for=argv_for,
            env=env,
            port=request.port,
            engine_path=engine.path,
            engine_sha256=known.sha256,
            engine_commit=known.version.commit,
            options=SupervisorOptions(
                keep_up=request.keep_up,
                canary=request.canary,
                env=agent,
                claim=rows_here(splits),
                claim_folder=str(here.settings.claims_dir.absolute()),
                nodes=spec_for(0).nodes,
            ),
        ),
        on_progress=here.on_progress,
    )


def _engine_of(planned: Planned) -> tuple[Engine, Capabilities]:
    """Return the engine here. Raises NotFound without one."""
    if planned.engine is None or planned.capabilities is None:
        raise NotFound(
            "a split needs an engine here, the same as on its peers", hint="launcher engine install"
        )
    return planned.engine, planned.capabilities


def _check_engines(split: Machines, sha256: str) -> None:
    """Raise UsageError for a peer whose engine is not the head's."""
    for member in split.members[1:]:
        theirs = next(each.engine_sha256 for each in split.seen if each.name == member.name)
        if theirs != sha256:
            raise UsageError(
                f"{member.name} has another engine (sha256 {(theirs or 'none')[:12]}) than this machine "
                f"({sha256[:12]}): over RPC they may take each other's operations for others",
                hint=f"launcher engine install, here and on {member.name}",
            )


def _seats(plan: Plan, split: Machines, sha256: str) -> tuple[RankSeat, ...]:
    """Return a rank for each device of a peer, with machines alike that may stand in for it."""
    taken = {row.where: row.used_bytes for row in plan.ledger}
    in_split = {member.name for member in split.members}
    spares = [
        each
        for each in split.seen
        if each.name not in in_split and each.member is not None
        if each.engine_sha256 == sha256 and each.node is not None
    ]
    seats = []
    for number, (peer, (member, device)) in enumerate(
        zip(plan.peers, remote_places(split.members), strict=True)
    ):
        alike = [spare.name for spare in spares if spare.member and _is_like(spare.member, member)]
        places = tuple(
            RankPlace(node=name, remote=split.node(name).remote, device=device)
            for name in (member.name, *alike)
        )
        port = int(peer.endpoint.rpartition(":")[2])
        seats.append(RankSeat(places=places, port=port, n_bytes=taken.get(f"RPC{number}", 0)))
    return tuple(seats)


def _is_like(one: Member, other: Member) -> bool:
    return class_of(one.machine) == class_of(other.machine)


def rows_here(splits: Sequence[SplitPlan]) -> Mapping[str, int]:
    """Return the most that the head takes on this machine in any layout: peers' launchers claim their own."""
    most: dict[str, int] = {}
    for each in splits:
        machine = each.machines.members[0].machine
        own = {HOST, *(device.id for device in machine.devices)}
        used = {row.where: row.used_bytes for row in each.plan.ledger if row.where in own}
        for where, n_bytes in by_memory(used, machine).items():
            most[where] = max(n_bytes, most.get(where, 0))
    return most


def without_one(
    here: Here, request: UpRequest, fleet: FleetPlan, seen: Sequence[NodeAnswer]
) -> list[SplitPlan]:
    """Return a split that does without it for each peer that no machine alike can stand in for."""
    own, *_ = seen
    able = {each.name for each in seen if each.engine_sha256 == own.engine_sha256}
    others = []
    for peer in fleet.split[1:]:
        rest = tuple(member for member in fleet.members if member is not peer and member.name in able)
        if any(_is_like(member, peer) for member in rest if member not in fleet.split):
            continue
        instead = plan_split(here, request.plan, rest, head=HERE)
        if instead.planned is not None and instead.split:
            others.append(
                SplitPlan(planned=instead.planned, machines=Machines(seen=tuple(seen), members=instead.split))
            )
    return others


def _gang_name(here: Here, name: str) -> str:
    # A machine may have ranks of several heads, and two of them may have a deployment of one name.
    place = f"{socket.gethostname()} {here.settings.deployments_dir.absolute()}"
    return f"{name[:_MOST_GANG_NAME]}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"
