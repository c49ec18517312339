"""Choose machines for the replicas of one model, among those that hold it now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A machine that holds the model whole, with what is free there."""

    name: str
    turn_s: float  # forecast of one turn there
    zone: str = ""  # machines that fail together


def choose_holders(
    holders: Sequence[Holder], replicas: int, standing: Sequence[Holder] = (), *, one_a_zone: bool = False
) -> tuple[Holder, ...]:
    """Return up to so many machines, one replica each, in zones with the fewest, the quickest first.

    `standing` have a replica already and get no other. With `one_a_zone` no zone gets a second one.
    """
    in_zone = Counter(holder.zone for holder in standing)
    left = {holder.name: holder for holder in holders}
    for holder in standing:
        left.pop(holder.name, None)
    chosen: list[Holder] = []
    while left and len(chosen) < replicas:
        best = min(left.values(), key=lambda each: (in_zone[each.zone], each.turn_s, each.name))
        if one_a_zone and in_zone[best.zone]:
            break
        in_zone[best.zone] += 1
        chosen.append(left.pop(best.name))
    return tuple(chosen)
