"""Describe a fleet, the plans made for its classes of machines, and what is placed where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.machine.machine import Backend, Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKind:
    """Devices that take the same bytes for the same layers."""

    backend: Backend
    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineClass:
    """A fingerprint of hardware: a plan for one of its machines is a plan for each."""

    arch: str
    cpu: str | None
    n_cpus: int
    ram_bytes: int
    devices: tuple[DeviceKind, ...]


def class_of(machine: Machine) -> MachineClass:
    """Return the class of a machine, whatever is free on it at the moment."""
    return MachineClass(
        arch=machine.arch,
        cpu=machine.cpu.name,
        n_cpus=machine.cpu.affinity,
        ram_bytes=machine.ram_bytes,
        devices=tuple(
            DeviceKind(backend=device.backend, name=device.name, total_bytes=device.total_bytes)
            for device in machine.devices
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the fleet, with the bytes that may be used there."""

    name: str
    machine_class: MachineClass
    device_bytes: tuple[int, ...]  # of each of the class's devices
    ram_bytes: int
    uuids: tuple[str, ...] = ()  # of the devices, where they are known
    zone: str = ""  # machines that fail together: replicas spread over zones
    domain: str = ""  # machines with a fast network among them: a split stays in one
    draining: bool = False  # it takes nothing new, and what is there goes elsewhere

    def __post_init__(self) -> None:
        _check_bytes(f"machine {self.name}", (*self.device_bytes, self.ram_bytes))
        if len(self.device_bytes) != len(self.machine_class.devices):
            raise UsageError(
                f"machine {self.name} states {len(self.device_bytes)} devices, its class has "
                f"{len(self.machine_class.devices)}",
                hint="state one number for each device",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes that a plan takes of one device."""

    kind: DeviceKind
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one machine of a class does for a replica."""

    machine_class: MachineClass
    parts: tuple[Part, ...]  # each on a device of its own
    ram_bytes: int
    argv: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_bytes("a plan", (*(part.n_bytes for part in self.parts), self.ram_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """One machine that holds the model."""

    share: Share

    @property
    def shares(self) -> tuple[Share, ...]:
        return (self.share,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """llama.cpp over RPC: a head with its peers."""

    head: Share
    peers: tuple[Share, ...]

    @property
    def shares(self) -> tuple[Share, ...]:
        return (self.head, *self.peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """An engine that runs as equals on several machines, as vLLM does; the first listens."""

    shares: tuple[Share, ...]


GroupPlan = Single | Split | Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model, how many replicas of it, and how one may run: the better plans first."""

    model: str
    replicas: int
    plans: tuple[GroupPlan, ...]
    priority: int = 0  # the higher is placed first


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A machine, and which of its devices take the parts of a share, in their order."""

    machine: str
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One replica of a model with a seat for each of its plan's shares."""

    model: str
    number: int
    plan: GroupPlan
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    model: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    placed: tuple[Placed, ...]
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What one machine is told to run for a replica; a later epoch takes the place of an earlier one."""

    machine: str
    epoch: int
    argv: tuple[str, ...]
    gpu_bytes: tuple[tuple[str, int], ...]  # by UUID
    ram_bytes: int


def ranks_of(placed: Placed, nodes: Sequence[Node], epoch: int) -> tuple[Rank, ...]:
    """Return the ranks of a replica, the head's first. Raises LookupError for an unknown machine or UUID."""
    by_name = {node.name: node for node in nodes}
    return tuple(
        Rank(
            machine=seat.machine,
            epoch=epoch,
            argv=share.argv,
            gpu_bytes=tuple(
                (by_name[seat.machine].uuids[device], part.n_bytes)
                for device, part in zip(seat.devices, share.parts, strict=True)
            ),
            ram_bytes=share.ram_bytes,
        )
        for seat, share in zip(placed.seats, placed.plan.shares, strict=True)
    )


def _check_bytes(whose: str, sizes: Sequence[int]) -> None:
    for size in sizes:
        if type(size) is not int or size < 0:
            raise UsageError(f"{whose} states {size!r} bytes", hint="bytes are whole numbers from 0 on")
