"""Made-up fleets and models, and what must hold of every layout of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from launcher.machine.machine import Backend
from launcher.plan.placement.group.room import Room
from launcher.plan.placement.group.values import (
    DeviceKind,
    GroupPlan,
    Layout,
    MachineClass,
    Node,
    Part,
    Placed,
    Share,
    Single,
    Split,
    Wanted,
)
from launcher.units import GIB

_PER_RACK = 20
_N_ZONES = 3


def machine_class(card: str, gib: int, count: int, ram_gib: int) -> MachineClass:
    kind = DeviceKind(backend=Backend.CUDA, name=card, total_bytes=gib * GIB)
    return MachineClass(
        arch="x86_64", cpu="EPYC 9355", n_cpus=64, ram_bytes=ram_gib * GIB, devices=(kind,) * count
    )


H200 = machine_class("H200", 141, 8, 1900)
A100 = machine_class("A100", 80, 8, 900)
RTX_4090 = machine_class("4090", 24, 4, 240)
RTX_3090 = machine_class("3090", 24, 1, 60)
CPU = machine_class("", 0, 0, 500)
_CLASSES = (H200, A100, RTX_4090, RTX_3090, CPU)


def node(name: str, kind: MachineClass, *, zone: str = "", domain: str = "") -> Node:
    return Node(
        name=name,
        machine_class=kind,
        device_bytes=tuple(device.total_bytes - GIB for device in kind.devices),
        ram_bytes=kind.ram_bytes,
        uuids=tuple(f"GPU-{name}-{index}" for index in range(len(kind.devices))),
        zone=zone,
        domain=domain,
    )


def fleet(count: int, seed: int = 1) -> list[Node]:
    rng = random.Random(seed)
    kinds = rng.choices(_CLASSES, (15, 20, 25, 20, 20), k=count)
    racks = [index // _PER_RACK for index in range(count)]
    return [
        node(f"n{index:04}", kind, zone=f"zone{rack % _N_ZONES}", domain=f"rack{rack}")
        for index, (kind, rack) in enumerate(zip(kinds, racks, strict=True))
    ]


def share(kind: MachineClass, n_devices: int, n_bytes: int, ram_bytes: int = 4 * GIB) -> Share:
    """Take so many bytes in all of so many devices."""
    each = -(-n_bytes // n_devices) if n_devices else 0
    parts = tuple(Part(kind=kind.devices[index], n_bytes=each) for index in range(n_devices))
    return Share(machine_class=kind, parts=parts, ram_bytes=ram_bytes)


def split(kind: MachineClass, n_machines: int, n_bytes: int) -> Split:
    each = share(kind, len(kind.devices), n_bytes // n_machines)
    head = Share(machine_class=kind, parts=each.parts, ram_bytes=2 * each.ram_bytes)
    return Split(head=head, peers=(each,) * (n_machines - 1))


def catalogue(count: int, seed: int = 2, replicas: Sequence[int] = (1, 2, 3, 5, 10, 20, 40)) -> list[Wanted]:
    rng = random.Random(seed)
    found = []
    for number in range(count):
        size = rng.choice([1, 3, 8, 8, 14, 30, 70, 120, 230, 380, 560]) * GIB + rng.randrange(GIB)
        found.append(
            Wanted(
                model=f"m{number:03}",
                replicas=rng.choice(replicas),
                plans=tuple(_plans(size * 115 // 100)),
                priority=rng.choice([0, 0, 1]),
            )
        )
    return found


def _plans(size: int) -> list[GroupPlan]:
    plans: list[GroupPlan] = []
    for kind in (H200, A100, RTX_4090, RTX_3090):
        usable = kind.devices[0].total_bytes - GIB
        n_devices = next((n for n in (1, 2, 4, 8) if n <= len(kind.devices) and size <= n * usable), None)
        if n_devices is not None:
            plans.append(Single(share=share(kind, n_devices, size)))
    if size >= 120 * GIB:
        plans.append(split(A100, 2, size))
    if size >= 70 * GIB:
        plans.append(split(RTX_4090, -(-size // (84 * GIB)), size))
    if size < 400 * GIB:
        plans.append(Single(share=share(CPU, 0, 0, size)))
    return plans


def broken(nodes: Sequence[Node], wanted: Sequence[Wanted], layout: Layout) -> list[str]:
    """Return what does not hold of a layout, by other means than those that made it."""
    found = []
    by_name = {each.name: each for each in nodes}
    want = {one.model: one for one in wanted}
    for placed in layout.placed:
        machines = [by_name[seat.machine] for seat in placed.seats]
        if placed.plan not in want[placed.model].plans or placed.number >= want[placed.model].replicas:
            found.append(f"{placed.model}: nobody asked for it")
        if len({each.name for each in machines}) != len(placed.plan.shares):
            found.append(f"{placed.model}: one machine twice")
        if len({each.domain for each in machines}) != 1:
            found.append(f"{placed.model}: split over domains")
        if any(each.draining for each in machines):
            found.append(f"{placed.model}: on a draining machine")
    found += [f"{name} is over its budget" for name in _over_budget(by_name, layout.placed)]
    said = sorted((each.model, each.number) for each in (*layout.placed, *layout.missing))
    if said != sorted((one.model, number) for one in wanted for number in range(one.replicas)):
        found.append("a replica is neither placed nor missing, or twice")
    return found


def _over_budget(nodes: dict[str, Node], placed: Sequence[Placed]) -> list[str]:
    devices = {name: [0] * len(each.device_bytes) for name, each in nodes.items()}
    ram = dict.fromkeys(nodes, 0)
    wrong = []
    for one in placed:
        for seat, part in zip(one.seats, one.plan.shares, strict=True):
            ram[seat.machine] += part.ram_bytes
            kinds = nodes[seat.machine].machine_class.devices
            if [kinds[index] for index in seat.devices] != [piece.kind for piece in part.parts]:
                wrong.append(seat.machine)
            for index, piece in zip(seat.devices, part.parts, strict=True):
                devices[seat.machine][index] += piece.n_bytes
    for name, each in nodes.items():
        fits = all(used <= most for used, most in zip(devices[name], each.device_bytes, strict=True))
        if not fits or ram[name] > each.ram_bytes:
            wrong.append(name)
    return wrong


def rooms_after(nodes: Sequence[Node], placed: Sequence[Placed]) -> list[Room]:
    rooms = {each.name: Room(each) for each in nodes if not each.draining}
    for one in placed:
        for seat, part in zip(one.seats, one.plan.shares, strict=True):
            rooms[seat.machine].take(part, seat.devices)
    return list(rooms.values())


def has_room(plan: GroupPlan, rooms: Sequence[Room]) -> bool:
    """Return True if machines of one domain would take the plan. A head needs no less than a peer here."""
    head, *peers = plan.shares
    for domain in {room.node.domain for room in rooms}:
        here = [room for room in rooms if room.node.domain == domain]
        for_peers = sum(_takes(room, peers[0]) for room in here) if peers else 1
        if for_peers >= len(plan.shares) and any(_takes(room, head) for room in here):
            return True
    return False


def _takes(room: Room, part: Share) -> bool:
    """Return True if some choice of devices holds a share, by counting those that are large enough."""
    if room.node.machine_class != part.machine_class or part.ram_bytes > room.ram:
        return False
    needs = sorted((piece.n_bytes for piece in part.parts), reverse=True)
    free = sorted(room.free, reverse=True)
    return len(needs) <= len(free) and all(need <= have for need, have in zip(needs, free, strict=False))
