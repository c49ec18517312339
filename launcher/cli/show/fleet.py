"""A plan for several machines as people read it: who holds replicas, or how one is split over them."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.finding import say_finding
from launcher.cli.show.ledger import render_ledger
from launcher.cli.show.plan import fold_command_line
from launcher.cli.show.tables import bullets, facts, grid
from launcher.commands.plan_fleet import FleetPlan
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.placement.group.members import places_of, remote_places
from launcher.plan.plan import Finding, Plan
from launcher.units import format_bytes

_TUNNEL = "ssh -N -o ExitOnForwardFailure=yes -o ServerAliveInterval=3 -o ServerAliveCountMax=2"


def render_fleet(fleet: FleetPlan) -> RenderableType:
    if fleet.finding is Finding.DOES_NOT_FIT:
        return _nothing(fleet)
    return _split(fleet) if fleet.split else _replicas(fleet)


def _replicas(fleet: FleetPlan) -> RenderableType:
    plans = [(name, plan) for name in fleet.machines if (plan := fleet.whole(name).plan) is not None]
    unverified = next((plan.unverified for _, plan in plans if plan.unverified), None)
    fits = f"{say_finding(fleet.finding, unverified)}: {_replica_count(len(plans))}"
    without = [each.name for each in fleet.members if each.name not in fleet.machines]
    rows = [
        (name, plan.quant, str(plan.ctx_size), ", ".join(plan.placement.devices) or "none")
        for name, plan in plans
    ]
    return Group(
        facts([("fits", fits), *((("not on", ", ".join(without)),) if without else ())]),
        grid(("machine", "quant", "context", "GPUs"), rows, right=frozenset({"context"})),
        *_ledgers(fleet),
    )


def _ledgers(fleet: FleetPlan) -> list[RenderableType]:
    """Lay out each plan once, under the names of all machines that it is for."""
    parts: list[RenderableType] = []
    for planned in fleet.by_machine.values():
        where = [name for name in fleet.machines if fleet.whole(name) is planned]
        if where and planned.plan is not None:
            parts += [Text(f"\non {', '.join(where)}:"), render_ledger(planned.plan.ledger)]
            parts += [Text(fold_command_line(planned.argv))]
    return parts


def _replica_count(count: int) -> str:
    return "one machine holds it" if count == 1 else f"{count} replicas, each on a machine of its own"


def _split(fleet: FleetPlan) -> RenderableType:
    planned = fleet.planned
    if planned is None or planned.plan is None:
        return _nothing(fleet)
    plan = planned.plan
    head = fleet.split[0]
    ranks = [
        (member.name, device, int(peer.endpoint.rpartition(":")[2]))
        for peer, (member, device) in zip(plan.peers, remote_places(fleet.split), strict=True)
    ]
    commands = [f"{name}:  ggml-rpc-server -p {port} -d {device}" for name, device, port in ranks]
    commands += [f"{head.name}:  {_TUNNEL} -L {port}:127.0.0.1:{port} {name}" for name, _, port in ranks]
    return Group(
        facts(
            [
                ("model", f"{plan.model_id}  {plan.quant}  {format_bytes(plan.size_bytes)}"),
                ("context", f"{plan.ctx_size} tokens; KV {plan.cache_type_k}/{plan.cache_type_v}"),
                (
                    "fits",
                    f"{say_finding(plan.finding, plan.unverified)}, split over {len(fleet.split)} machines",
                ),
                ("head", head.name),
            ]
        ),
        render_ledger(_by_machine(plan, fleet)),
        bullets(
            (
                *plan.reasons,
                "no speed is predicted over a network; a lost peer ends the whole server",
                "RPC has neither password nor encryption: servers listen on loopback, and ssh leads there",
            )
        ),
        Text("\n" + "\n".join(commands) + f"\n{head.name}:\n{fold_command_line(planned.argv)}"),
    )


def _by_machine(plan: Plan, fleet: FleetPlan) -> tuple[LedgerRow, ...]:
    """Return the rows under the names of machines and of their devices there."""
    places = places_of(fleet.split)
    return tuple(
        row
        if row.where == HOST
        else replace(row, where=f"{places[row.where][0].name} {places[row.where][1]}")
        for row in plan.ledger
    )


def _nothing(fleet: FleetPlan) -> RenderableType:
    short = None if fleet.planned is None else fleet.planned.choice.shortfall
    names = ", ".join(member.name for member in fleet.members)
    if short is None:
        return Group(facts([("fits", f"no: neither whole nor split on {names}")]), bullets(fleet.remarks))
    return Group(
        facts(
            [
                ("model", f"{short.model_id}  {short.quant}  {format_bytes(short.size_bytes)}"),
                ("fits", f"no: neither whole nor split on {names}; at best {short.lack}"),
            ]
        ),
        bullets((*fleet.remarks, *short.reasons)),
    )
