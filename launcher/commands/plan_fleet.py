"""Plan a model on several machines: replicas where one holds it, else one split over them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.plan import plan_on
from launcher.commands.planned import Planned, PlanRequest
from launcher.commands.probe import MachineChoice, look_once, probe
from launcher.deployment.ports import free_ports
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.errors import NotFound, UsageError
from launcher.machine.fleet import FleetEntry, parse_fleet
from launcher.machine.machine import MAX_DEVICES, Machine
from launcher.machine.peers import refuse_peers
from launcher.machine.shared_memory import memory_bytes
from launcher.models.catalogue import Target
from launcher.plan.as_json import plan_json, shortfall_json
from launcher.plan.modes import Dialect
from launcher.plan.placement.group.members import (
    Member,
    node_of,
    places_of,
    remote_places,
    single_of,
    split_machine,
    split_of,
)
from launcher.plan.placement.group.place import place
from launcher.plan.placement.group.values import Layout, Placed, Seat, Wanted
from launcher.plan.plan import Finding
from launcher.system.settings import expand_home
from launcher.system.small_files import read_small_text

# What runs elsewhere is fetched there first, and two forecasts differ by a few per cent for nothing.
_CLEARLY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """Where the model runs: whole on each of `members` in the layout, or split over `split`."""

    members: tuple[Member, ...]
    layout: Layout
    by_machine: dict[Machine, Planned]  # of each machine alone: what is free there counts
    split: tuple[Member, ...] = ()  # the head first
    planned: Planned | None = None  # of the split, or of what comes nearest
    remarks: tuple[str, ...] = ()

    @property
    def finding(self) -> Finding:
        """The least certain finding of what runs."""
        used = [self.planned] if self.split else [self.whole(name) for name in self.machines]
        found = {planned.plan.finding for planned in used if planned and planned.plan}
        order = (Finding.UNVERIFIED, Finding.FITS_BY_ESTIMATE, Finding.FITS)
        return next((finding for finding in order if finding in found), Finding.DOES_NOT_FIT)

    @property
    def machines(self) -> tuple[str, ...]:
        """Machines that hold a whole replica."""
        return () if self.split else tuple(placed.seats[0].machine for placed in self.layout.placed)

    @property
    def quickest(self) -> str:
        """Return the machine whose forecast of one turn is the shortest, by a tenth or more if not the first.

        Raises LookupError where none holds a whole replica.
        """
        first, *others = self.machines
        best = first
        for name in others:
            if self.turn_s(name) < self.turn_s(best) * (1.0 if best != first else _CLEARLY):
                best = name
        return best

    def turn_s(self, name: str) -> float:
        """Return the forecast of one turn on a machine that holds a whole replica."""
        plan = self.whole(name).plan
        return math.inf if plan is None or plan.forecast is None else plan.forecast.turn_seconds.mid

    def whole(self, name: str) -> Planned:
        return self.by_machine[self.member(name).machine]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)


def read_fleet(file: Path) -> tuple[FleetEntry, ...]:
    """Read a file of machines. Raises UsageError and NotFound."""
    path = expand_home(file)
    try:
        return parse_fleet(read_small_text(path, pipes=True), str(file))
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {file}", hint='write [[machine]] tables: machine = "8xh100-80g", count = 2'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint=f"ls -l {file}") from error


def plan_fleet(here: Here, request: PlanRequest, entries: Sequence[FleetEntry]) -> FleetPlan:
    """Plan a model for these machines. Raises UsageError for a request about one machine's devices."""
    return plan_members(here, request, tuple(_member(here, entry) for entry in entries))


def plan_members(
    here: Here, request: PlanRequest, members: tuple[Member, ...], head: str | None = None
) -> FleetPlan:
    """Plan a model for these members of a fleet; a split has its head on `head`, if that is named.

    Raises UsageError as `plan_fleet`.
    """
    planner = _planner(here, request, head)
    by_machine: dict[Machine, Planned] = {}
    for member in members:
        if member.machine not in by_machine and (planned := planner.plan((member,))) is not None:
            by_machine[member.machine] = planned
    placed = tuple(_placed_whole(planner.target.model_id, members, by_machine))
    if placed:
        return FleetPlan(members=members, layout=Layout(placed=placed, missing=()), by_machine=by_machine)
    return _split(planner, members, by_machine)


def plan_split(here: Here, request: PlanRequest, members: tuple[Member, ...], head: str) -> FleetPlan:
    """Plan a model over several of these members, none of which holds it alone. Raises as `plan_fleet`."""
    return _split(_planner(here, request, head), members, {})


def _placed_whole(
    model: str, members: Sequence[Member], by_machine: Mapping[Machine, Planned]
) -> Iterator[Placed]:
    """Yield a replica for each machine that holds one, on the devices that its own plan names."""
    for number, member in enumerate(members):
        planned = by_machine.get(member.machine)
        if planned is None or planned.plan is None:
            continue
        used = {row.where for row in planned.plan.ledger}
        devices = (index for index, device in enumerate(member.machine.devices) if device.id in used)
        seat = Seat(machine=member.name, devices=tuple(devices))
        plan = single_of(planned.plan, member, planned.argv)
        yield Placed(model=model, number=number, plan=plan, seats=(seat,))


def _member(here: Here, entry: FleetEntry) -> Member:
    machine = probe(here, MachineChoice(name=entry.ref))
    refuse_peers(machine, entry.ref)
    return Member(name=entry.name, machine=machine, zone=entry.zone, domain=entry.domain)


def _planner(here: Here, request: PlanRequest, head: str | None) -> _Planner:
    if request.limits.gpus is not None:
        raise UsageError("--gpus names GPUs of one machine, and there are several", hint="leave --gpus out")
    engine = engine_or_none(here, request.engine, look_once(here))
    target = opened_once(inspect(here, request.ref, request.quant))
    return _Planner(here=here, request=request, target=target, engine=engine, head=head)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    """Plans one model for machines alone or behind a head."""

    here: Here
    request: PlanRequest
    target: Target
    engine: Engine | None
    head: str | None  # the machine that a split's head is on; None: the one with most RAM

    def plan(self, members: Sequence[Member]) -> Planned | None:
        """Plan for the first as the head of the others; None for more devices than llama.cpp takes."""
        # Where the head is known, so are its tunnels: they begin at ports that are free there now.
        n_remote = sum(len(member.given) for member in members[1:])
        ports = free_ports(n_remote) if self.head is not None else ()
        machine = split_machine(members, ports)
        if machine is None:
            return None
        return plan_on(self.here, self.request, self.target, machine, self.engine)

    @property
    def least_bytes(self) -> int:
        return min((candidate.size_bytes or 0 for candidate in self.target.candidates), default=0)


def _split(planner: _Planner, members: tuple[Member, ...], by_machine: dict[Machine, Planned]) -> FleetPlan:
    """Split the model over the fewest machines that hold it."""
    engine, cache = planner.engine, planner.here.settings.cache_dir
    if engine is not None and read_capabilities(engine, cache).dialect is not Dialect.LLAMA_CPP:
        raise UsageError(
            "no one machine holds the model, and a split needs the RPC of llama.cpp: this engine is another",
            hint="leave --engine out",
        )
    if planner.request.workload.min_tps is not None:
        raise UsageError(
            "--min-tps: no one machine holds the model, and no speed is predicted over a network",
            hint="leave --min-tps out",
        )
    nothing = FleetPlan(
        members=members,
        layout=Layout(placed=(), missing=()),
        by_machine=by_machine,
        planned=max(by_machine.values(), key=_nearness, default=None),
    )
    asked: dict[tuple[Machine, ...], Planned | None] = {}
    for chosen in _choices(members, planner.head):
        if sum(memory_bytes(member.machine) for member in chosen) < planner.least_bytes:
            continue
        kinds = tuple(member.machine for member in chosen)
        if kinds not in asked:
            asked[kinds] = planner.plan(chosen)
        planned = asked[kinds]
        if planned is None:
            names = ", ".join(member.name for member in chosen)
            remark = f"{names} together have more devices than llama.cpp takes ({MAX_DEVICES})"
            return replace(nothing, remarks=(remark,))
        if planned.plan is None:
            nothing = replace(nothing, planned=max(filter(None, (nothing.planned, planned)), key=_nearness))
            continue
        return _laid_out(planner, replace(nothing, split=chosen, planned=planned))
    return nothing


def _laid_out(planner: _Planner, fleet: FleetPlan) -> FleetPlan:
    """Place the split on its machines, which checks that each holds its share."""
    planned, chosen = fleet.planned, fleet.split
    if planned is None or planned.plan is None:
        return fleet
    nodes = [node_of(member, planner.request.limits) for member in chosen]
    plan = split_of(planned.plan, chosen, planned.argv)
    return replace(
        fleet, layout=place(nodes, [Wanted(model=planner.target.model_id, replicas=1, plans=(plan,))])
    )


def _nearness(planned: Planned) -> int:
    short = planned.choice.shortfall
    return 0 if short is None else -short.missing_bytes


def _choices(members: Sequence[Member], head_name: str | None) -> Iterator[tuple[Member, ...]]:
    """Yield groups of 2 and more machines of one domain, the largest first; the head comes first.

    It is the one of that name, or the one with most RAM.
    """
    by_domain: dict[str, list[Member]] = {}
    for member in sorted(
        members, key=lambda each: (each.name != head_name, -memory_bytes(each.machine), each.name)
    ):
        by_domain.setdefault(member.domain, []).append(member)
    for count in range(2, len(members) + 1):
        for domain in sorted(by_domain):
            chosen = by_domain[domain][:count]
            if len(chosen) == count:
                head = max(
                    chosen, key=lambda each: (each.name == head_name, each.machine.ram_available_bytes)
                )
                yield (head, *(member for member in chosen if member is not head))


def fleet_document(fleet: FleetPlan) -> dict[str, Any]:
    """Return the plan as versioned JSON."""
    planned = fleet.planned
    finding = fleet.finding
    return {
        "schema": 1,
        "fits": None if finding is Finding.UNVERIFIED else finding is not Finding.DOES_NOT_FIT,
        "verdict": finding.value,
        "machines": [
            {"name": member.name, "zone": member.zone, "domain": member.domain} for member in fleet.members
        ],
        "replicas": [_replica(fleet, name) for name in fleet.machines],
        "split": _split_document(fleet) if fleet.split else None,
        "shortfall": None
        if finding is not Finding.DOES_NOT_FIT or planned is None or planned.choice.shortfall is None
        else shortfall_json(planned.choice.shortfall)["shortfall"],
        "remarks": list(fleet.remarks),
    }


def _replica(fleet: FleetPlan, name: str) -> dict[str, Any]:
    planned = fleet.whole(name)
    if planned.plan is None:
        raise LookupError(name)
    return {"machine": name, "plan": plan_json(planned.plan, argv=planned.argv)}


def _split_document(fleet: FleetPlan) -> dict[str, Any] | None:
    planned = fleet.planned
    if planned is None or planned.plan is None:
        return None
    head, *_ = fleet.split
    places = places_of(fleet.split)
    named = {where: (member.name, device) for where, (member, device) in places.items()}
    document = plan_json(planned.plan, argv=planned.argv)
    for row in document["devices"]:
        row["machine"], row["device"] = named[row["id"]]
    return {
        "head": head.name,
        "peers": [
            {"machine": member.name, "endpoint": peer.endpoint, "device": device}
            for peer, (member, device) in zip(planned.plan.peers, remote_places(fleet.split), strict=True)
        ],
        "plan": document,
    }
