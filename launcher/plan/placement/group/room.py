"""Count what is left of a machine, and keep machines in the order of it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from launcher.plan.placement.group.values import Node, Share

# RAM is plenty beside devices: a byte of it counts less for how full a machine is.
_RAM_WEIGHT = 8


class Need:
    """A share as it is looked for: the largest part first."""

    __slots__ = ("parts", "ram", "share", "weight")

    def __init__(self, share: Share) -> None:
        self.share = share
        # What can take a part can take every smaller one of its kind: with the largest first, devices are
        # found wherever there are any.
        self.parts = sorted(enumerate(share.parts), key=lambda entry: (-entry[1].n_bytes, entry[0]))
        self.ram = share.ram_bytes
        self.weight = weight_of(share)


def weight_of(share: Share) -> int:
    return sum(part.n_bytes for part in share.parts) + share.ram_bytes // _RAM_WEIGHT


class Room:
    """What is left of one machine."""

    __slots__ = ("free", "left", "node", "ram")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.free = list(node.device_bytes)
        self.ram = node.ram_bytes
        self.left = sum(self.free) + self.ram // _RAM_WEIGHT

    def devices_for(self, need: Need) -> tuple[int, ...] | None:
        """Return a device for each part, the fullest that holds it; None where the share does not fit."""
        if need.ram > self.ram:
            return None
        kinds, free = self.node.machine_class.devices, self.free
        taken = [-1] * len(need.parts)
        order = sorted(range(len(free)), key=free.__getitem__)
        for index, part in need.parts:
            n_bytes, kind = part.n_bytes, part.kind
            for device in order:
                if free[device] >= n_bytes and (kinds[device] is kind or kinds[device] == kind):
                    order.remove(device)
                    taken[index] = device
                    break
            else:
                return None
        return tuple(taken)

    def holds(self, share: Share, devices: tuple[int, ...]) -> bool:
        """Return True if the share still fits on exactly these devices."""
        kinds = self.node.machine_class.devices
        return (
            share.ram_bytes <= self.ram
            and len(set(devices)) == len(devices) == len(share.parts)
            and all(
                0 <= device < len(kinds) and kinds[device] == part.kind and self.free[device] >= part.n_bytes
                for device, part in zip(devices, share.parts, strict=True)
            )
        )

    def take(self, share: Share, devices: tuple[int, ...]) -> None:
        for device, part in zip(devices, share.parts, strict=True):
            self.free[device] -= part.n_bytes
        self.ram -= share.ram_bytes
        self.left = sum(self.free) + self.ram // _RAM_WEIGHT


class Shelf:
    """The machines of one class, by zone and in each the fullest first."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._zones: dict[str, list[tuple[int, str, Room]]] = defaultdict(list)
        for room in rooms:
            self._zones[room.node.zone].append((room.left, room.node.name, room))
        for entries in self._zones.values():
            entries.sort(key=lambda entry: entry[:2])

    @property
    def zones(self) -> Sequence[str]:
        return tuple(self._zones)

    def from_fullest(self, zone: str, need: Need) -> Iterator[Room]:
        """Yield the zone's machines that have at least so much left, the fullest first."""
        entries = self._zones[zone]
        for index in range(bisect_left(entries, (need.weight - 1,)), len(entries)):
            yield entries[index][2]

    def take(self, room: Room, share: Share, devices: tuple[int, ...]) -> None:
        entries = self._zones[room.node.zone]
        del entries[bisect_left(entries, (room.left, room.node.name))]
        room.take(share, devices)
        insort(entries, (room.left, room.node.name, room), key=lambda entry: entry[:2])
