"""Say which ranks a gang has, in which layouts, and choose a machine for each. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.deployment.cluster.remote import Remote, read_remote, remote_json
from launcher.machine.machine import MAX_DEVICES
from launcher.system.json_object import JsonObject, Malformed, parse_json

AVOID_S = 120.0  # a machine that was lost is the last choice for as long

_MOST_PLACES = 64
_MOST_BYTES = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """A device of a machine, by the name that it has there."""

    node: str
    remote: Remote
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSeat:
    """A rank's part of the plan: the same on each of its places, which are alike."""

    places: tuple[RankPlace, ...]
    port: int  # here, where the tunnel to it begins
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GangLayout:
    """One way to split the model: its ranks, and the llama-server that is led to them."""

    seats: tuple[RankSeat, ...]
    argv: tuple[str, ...]

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(place.node for seat in self.seats for place in seat.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class GangSpec:
    name: str  # of its ranks, less their numbers
    engine_sha256: str
    layouts: tuple[GangLayout, ...]  # the one that was planned, and those that do without one of its machines

    @property
    def nodes(self) -> tuple[str, ...]:
        """The machines that its ranks may be on."""
        return tuple(sorted(frozenset().union(*(layout.nodes for layout in self.layouts))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Raising:
    """What one run of a gang raises."""

    layout: GangLayout
    places: tuple[RankPlace, ...]  # of its seats


def choose(spec: GangSpec, lost: Mapping[str, float], now: float) -> Raising:
    """Return the first layout whose machines were not lost lately; else the one whose loss is longest ago.

    `lost` has the time of each machine's last loss.
    """
    options = [Raising(layout=layout, places=_places(layout.seats, lost, now)) for layout in spec.layouts]

    def last_loss(option: Raising) -> float:
        return max(lost.get(place.node, -AVOID_S) for place in option.places)

    well = (option for option in options if now - last_loss(option) >= AVOID_S)
    return next(well, None) or min(options, key=last_loss)


def _places(seats: Sequence[RankSeat], lost: Mapping[str, float], now: float) -> tuple[RankPlace, ...]:
    """Return a place of its own for each seat: the first on a machine that was not lost lately.

    A seat without such a place gets the one lost first.
    """
    chosen: list[RankPlace] = []
    for seat in seats:
        taken = {(place.node, place.device) for place in chosen}
        free = [place for place in seat.places if (place.node, place.device) not in taken] or list(
            seat.places
        )
        # A machine that was never lost counts as one that was lost long ago.
        well = [place for place in free if now - lost.get(place.node, -AVOID_S) >= AVOID_S]
        chosen.append(well[0] if well else min(free, key=lambda place: lost.get(place.node, 0.0)))
    return tuple(chosen)


def rank_name(spec: GangSpec, seat: int) -> str:
    return f"{spec.name}.{seat}"


def format_spec(spec: GangSpec) -> str:
    layouts = [{"seats": _seats_json(layout.seats), "argv": list(layout.argv)} for layout in spec.layouts]
    return json.dumps({"name": spec.name, "engine_sha256": spec.engine_sha256, "layouts": layouts})


def _seats_json(seats: Sequence[RankSeat]) -> list[dict[str, object]]:
    return [
        {
            "port": seat.port,
            "bytes": seat.n_bytes,
            "places": [
                {"node": place.node, "device": place.device, **remote_json(place.remote)}
                for place in seat.places
            ],
        }
        for seat in seats
    ]


def parse_spec(text: str) -> GangSpec:
    """Read what `format_spec` wrote. Raises Malformed, UsageError."""
    given = JsonObject(parse_json(text))
    layouts = tuple(map(_layout, given.objects_at("layouts")))
    if not 0 < len(layouts) <= 1 + MAX_DEVICES:
        raise given.malformed("layouts", "is empty, or too long")
    return GangSpec(name=given.text("name"), engine_sha256=given.text("engine_sha256"), layouts=layouts)


def _layout(given: JsonObject) -> GangLayout:
    seats = tuple(map(_seat, given.objects_at("seats")))
    if not 0 < len(seats) <= MAX_DEVICES:
        raise Malformed(f"a gang has 1 to {MAX_DEVICES} ranks")
    return GangLayout(seats=seats, argv=given.texts("argv"))


def _seat(given: JsonObject) -> RankSeat:
    places = tuple(
        RankPlace(node=each.text("node"), remote=read_remote(each), device=each.text("device"))
        for each in given.objects_at("places")
    )
    if not 0 < len(places) <= _MOST_PLACES:
        raise given.malformed("places", "is empty, or too long")
    return RankSeat(
        places=places, port=given.whole("port", 1, 65535), n_bytes=given.whole("bytes", 0, _MOST_BYTES)
    )
