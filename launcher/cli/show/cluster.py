"""A plan for several machines as people read it: who holds replicas, or how one is split over them."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.finding import say_finding
from launcher.cli.show.ledger import render_ledger
from launcher.cli.show.plan import fold_command_line
from launcher.cli.show.tables import bullets, facts, grid
from launcher.commands.cluster import ClusterPlan
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.placement.group.members import places_of, remote_places
from launcher.plan.plan import Finding, Plan
from launcher.units import format_bytes

_TUNNEL = "ssh -N -o ExitOnForwardFailure=yes -o ServerAliveInterval=3 -o ServerAliveCountMax=2"


def render_cluster(cluster: ClusterPlan) -> RenderableType:
    if cluster.finding is Finding.DOES_NOT_FIT:
        return _nothing(cluster)
    return _split(cluster) if cluster.split else _replicas(cluster)


def _replicas(cluster: ClusterPlan) -> RenderableType:
    plans = [(name, plan) for name in cluster.machines if (plan := cluster.whole(name).plan) is not None]
    unverified = next((plan.unverified for _, plan in plans if plan.unverified), None)
    fits = f"{say_finding(cluster.finding, unverified)}: {_replica_count(len(plans))}"
    without = [each.name for each in cluster.members if each.name not in cluster.machines]
    rows = [
        (name, plan.quant, str(plan.ctx_size), ", ".join(plan.placement.devices) or "none")
        for name, plan in plans
    ]
    return Group(
        facts([("fits", fits), *((("not on", ", ".join(without)),) if without else ())]),
        grid(("machine", "quant", "context", "GPUs"), rows, right=frozenset({"context"})),
        *_ledgers(cluster),
    )


def _ledgers(cluster: ClusterPlan) -> list[RenderableType]:
    """Lay out each plan once, under the names of all machines that it is for."""
    parts: list[RenderableType] = []
    for planned in cluster.by_machine.values():
        where = [name for name in cluster.machines if cluster.whole(name) is planned]
        if where and planned.plan is not None:
            parts += [Text(f"\non {', '.join(where)}:"), render_ledger(planned.plan.ledger)]
            parts += [Text(fold_command_line(planned.argv))]
    return parts


def _replica_count(count: int) -> str:
    return "one machine holds it" if count == 1 else f"{count} replicas, each on a machine of its own"


def _split(cluster: ClusterPlan) -> RenderableType:
    planned = cluster.planned
    if planned is None or planned.plan is None:
        return _nothing(cluster)
    plan = planned.plan
    head = cluster.split[0]
    ranks = [
        (member.name, device, int(peer.endpoint.rpartition(":")[2]))
        for peer, (member, device) in zip(plan.peers, remote_places(cluster.split), strict=True)
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
                    f"{say_finding(plan.finding, plan.unverified)}, split over {len(cluster.split)} machines",
                ),
                ("head", head.name),
            ]
        ),
        render_ledger(_by_machine(plan, cluster)),
        bullets(
            (
                *plan.reasons,
                "no speed is predicted over a network; a lost peer ends the whole server",
                "RPC has neither password nor encryption: servers listen on loopback, and ssh leads there",
            )
        ),
        Text("\n" + "\n".join(commands) + f"\n{head.name}:\n{fold_command_line(planned.argv)}"),
    )


def _by_machine(plan: Plan, cluster: ClusterPlan) -> tuple[LedgerRow, ...]:
    """Return the rows under the names of machines and of their devices there."""
    places = places_of(cluster.split)
    return tuple(
        row
        if row.where == HOST
        else replace(row, where=f"{places[row.where][0].name} {places[row.where][1]}")
        for row in plan.ledger
    )


def _nothing(cluster: ClusterPlan) -> RenderableType:
    short = None if cluster.planned is None else cluster.planned.choice.shortfall
    names = ", ".join(member.name for member in cluster.members)
    if short is None:
        return Group(facts([("fits", f"no: neither whole nor split on {names}")]), bullets(cluster.remarks))
    return Group(
        facts(
            [
                ("model", f"{short.model_id}  {short.quant}  {format_bytes(short.size_bytes)}"),
                ("fits", f"no: neither whole nor split on {names}; at best {short.lack}"),
            ]
        ),
        bullets((*cluster.remarks, *short.reasons)),
    )
