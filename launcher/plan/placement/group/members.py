"""See machines of a fleet as the planner does: one alone, or a head with others behind RPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import MAX_DEVICES, Backend, Device, Machine, Peer
from launcher.machine.peers import number_peers
from launcher.plan.amounts import HOST
from launcher.plan.memory.budget import device_margin, free_bytes, ram_reserve, read_budgets
from launcher.plan.placement.group.values import Node, Part, Share, Single, Split, class_of
from launcher.plan.plan import Plan
from launcher.plan.workload import Limits

PORT = 50052  # ggml-rpc-server's own
LOOPBACK = "127.0.0.1"  # where a ggml-rpc-server listens: it knows no password, and only ssh leads to it
PROCESSOR = "CPU"  # what ggml calls it as a device


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A machine of a fleet, by name."""

    name: str
    machine: Machine
    zone: str = ""
    domain: str = ""

    @property
    def given(self) -> tuple[Device, ...]:
        """The devices that a ggml-rpc-server there gives: its GPUs, or the processor where it has none."""
        return tuple(map(self._as_given, self.machine.devices)) or (self._processor,)

    def _ram_for(self, device: Device) -> int:
        # what is kept for others, as far as the device's own margin does not keep it
        kept = max(ram_reserve(self.machine) - device_margin(device), 0)
        return max(self.machine.ram_available_bytes - kept, 0)

    @property
    def _processor(self) -> Device:
        device = Device(
            id=PROCESSOR,
            backend=Backend.CPU,
            name=self.machine.cpu.name or "processor",
            total_bytes=self.machine.ram_bytes,
            free_bytes=None,
        )
        return replace(device, free_bytes=min(self.machine.ram_bytes, self._ram_for(device)))

    def _as_given(self, device: Device) -> Device:
        free = free_bytes(device)
        return replace(
            device,
            free_bytes=min(free, self._ram_for(device)) if device.lies_in_ram else free,
            shares_host_memory=False,
            carve_out_bytes=0,
        )


def endpoint_of(number: int) -> str:
    """Return where the head reaches its remote device of this number: the end of a tunnel."""
    # An RPC server has neither password nor encryption: it listens on loopback, and ssh -L leads there. Each
    # device has a server of its own: a server works for its devices one after the other.
    return f"{LOOPBACK}:{PORT + number}"


def node_of(member: Member, limits: Limits) -> Node:
    """Return the bytes of a machine that one deployment may use."""
    budgets = read_budgets(member.machine, replace(limits, gpus=None))
    by_id = {budget.device.id: budget.n_bytes for budget in budgets.devices}
    uuids = [device.uuid for device in member.machine.devices]
    return Node(
        name=member.name,
        machine_class=class_of(member.machine),
        device_bytes=tuple(by_id.get(device.id, 0) for device in member.machine.devices),
        ram_bytes=budgets.host_bytes,
        uuids=tuple(uuid for uuid in uuids if uuid is not None) if None not in uuids else (),
        zone=member.zone,
        domain=member.domain,
    )


def single_of(plan: Plan, member: Member, argv: tuple[str, ...] = ()) -> Single:
    """Return what a plan takes of the machine that it was made for."""
    used = {row.where: row.memory[0] for row in plan.ledger}
    return Single(share=_share(member, used, argv))


def split_machine(members: Sequence[Member], ports: Sequence[int] = ()) -> Machine | None:
    """Return the first member as the head of the others; None if llama.cpp takes fewer devices than that.

    `ports` are those of tunnels to the peers' devices, where they are known.
    """
    head, *peers = members
    given = [device for member in peers for device in member.given]
    remote = number_peers(
        [
            replace(
                device, peer=Peer(endpoint=f"{LOOPBACK}:{ports[number]}" if ports else endpoint_of(number))
            )
            for number, device in enumerate(given)
        ]
    )
    # The head's own GPUs last: the last device sends the logits, and there they cross no network.
    devices = (*remote, *head.machine.devices)
    return None if len(devices) > MAX_DEVICES else replace(head.machine, devices=devices)


def remote_places(members: Sequence[Member]) -> list[tuple[Member, str]]:
    """Return RPC0, RPC1 and on of a split: which member has it, and what it is called there."""
    return [(member, device.id) for member in members[1:] for device in member.given]


def places_of(members: Sequence[Member]) -> dict[str, tuple[Member, str]]:
    """Return by the head's name of a device which member has it, and what it is called there."""
    head, remote = members[0], remote_places(members)
    own = {device.id: (head, device.id) for device in head.machine.devices}
    return {f"RPC{index}": place for index, place in enumerate(remote)} | own | {HOST: (head, HOST)}


def split_of(plan: Plan, members: Sequence[Member], argv: tuple[str, ...] = ()) -> Split:
    """Return what a plan for `split_machine(members)` takes of each; one without a row takes nothing."""
    places = places_of(members)
    used: dict[str, dict[str, int]] = {member.name: {} for member in members}
    for row in plan.ledger:
        member, where = places[row.where]
        used[member.name][HOST if where == PROCESSOR else where] = row.memory[0]
    head, *peers = members
    return Split(
        head=_share(head, used[head.name], argv),
        peers=tuple(_share(peer, used[peer.name], ()) for peer in peers if used[peer.name]),
    )


def _share(member: Member, used: dict[str, int], argv: tuple[str, ...]) -> Share:
    kinds = class_of(member.machine).devices
    return Share(
        machine_class=class_of(member.machine),
        parts=tuple(
            Part(kind=kind, n_bytes=used[device.id])
            for kind, device in zip(kinds, member.machine.devices, strict=True)
            if device.id in used
        ),
        ram_bytes=used.get(HOST, 0),
        argv=argv,
    )
