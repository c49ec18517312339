"""Other programs' rules for who has to go, and what nobody can do better: for scripts/bench admission."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, count, groupby
from math import inf
from statistics import mean

from tests.gateway.admission.world import Ask, Kind

STOP_S = 1.0
Victims = Callable[[str, Sequence[str]], set[str]]  # (wanted, loaded by last use) -> who has to go


@dataclass
class Result:
    waits: list[float] = field(default_factory=list)
    loads: int = 0
    failed: int = 0

    def line(self) -> str:
        ranked = sorted(self.waits)
        p95 = ranked[int(len(ranked) * 0.95)] if ranked else 0.0
        return f"{mean(self.waits or [0.0]):9.2f} {p95:9.1f} {self.loads:7} {self.failed:7}"


class Baseline:
    """Serve arrivals by a rule that names who has to go; busy models are waited for, as both programs do."""

    def __init__(
        self, kinds: Mapping[str, Kind], capacity: Mapping[str, int], asks: Sequence[Ask], victims: Victims
    ) -> None:
        self.kinds, self.capacity, self.asks, self.victims = kinds, capacity, asks, victims
        self.result, self.order = Result(), count()
        self.heap: list[tuple[float, int, str, str, int]] = []
        self.ready: dict[str, float] = {}  # by last use
        self.busy: dict[str, int] = {}
        self.moving: dict[str, str] = {}  # loading or stopping
        self.waiting: list[int] = []

    def run(self) -> Result:
        for index, ask in enumerate(self.asks):
            self.push(ask.at, "ask", ask.model, index)
        while self.heap:
            now, _, what, model, index = heapq.heappop(self.heap)
            if what == "ask":
                self.waiting.append(index)
            elif what == "end":
                self.busy[model] -= 1
                self.ready[model] = now
            elif self.moving.pop(model) == "load":
                self.ready[model] = now
            self.serve(now)
            for wanted in dict.fromkeys(self.asks[index].model for index in self.waiting):
                if wanted not in self.ready and wanted not in self.moving:
                    self.start(wanted, now)
        return self.result

    def push(self, at: float, what: str, model: str, index: int = -1) -> None:
        heapq.heappush(self.heap, (at, next(self.order), what, model, index))

    def serve(self, now: float) -> None:
        for index in list(self.waiting):
            model = self.asks[index].model
            if model in self.ready and self.busy.get(model, 0) < self.kinds[model].slots:
                self.waiting.remove(index)
                self.busy[model] = self.busy.get(model, 0) + 1
                self.ready[model] = now
                self.result.waits.append(now - self.asks[index].at)
                self.push(now + self.asks[index].lasts_s, "end", model)

    def start(self, model: str, now: float) -> None:
        loading = [name for name, what in self.moving.items() if what == "load"]
        gone = self.victims(model, [*sorted(self.ready, key=self.ready.__getitem__), *loading])
        if gone & {*loading}:
            return
        for name in gone & {*self.ready}:
            if not self.busy.get(name):
                del self.ready[name]
                self.moving[name] = "stop"
                self.push(now + STOP_S, "stopped", name)
        if gone & {*self.ready} or "stop" in self.moving.values():
            return
        self.result.loads += 1
        if not fit(self.kinds, self.capacity, (*self.ready, *self.moving, model)):
            # out of memory, found out by loading
            lost = [index for index in self.waiting if self.asks[index].model == model]
            self.result.failed += len(lost)
            self.waiting = [index for index in self.waiting if index not in lost]
            return
        self.moving[model] = "load"
        self.push(now + self.kinds[model].load_s, "loaded", model)


def fit(kinds: Mapping[str, Kind], capacity: Mapping[str, int], names: Iterable[str]) -> bool:
    there = [kinds[name].needs for name in names]
    return all(sum(needs.get(place, 0) for needs in there) <= total for place, total in capacity.items())


def lru(n: int) -> Victims:
    def victims(_wanted: str, loaded: Sequence[str]) -> set[str]:
        return set(loaded[: max(0, len(loaded) - n + 1)])

    return victims


def groups_rule(groups: Sequence[frozenset[str]]) -> Victims:
    def victims(wanted: str, loaded: Sequence[str]) -> set[str]:
        group = next(each for each in groups if wanted in each)
        return {name for name in loaded if name in group}

    return victims


def partitions(names: Sequence[str]) -> Iterator[list[list[str]]]:
    if not names:
        yield []
        return
    first, *rest = names
    for parts in partitions(rest):
        yield [[first], *parts]
        for i in range(len(parts)):
            yield [*parts[:i], [first, *parts[i]], *parts[i + 1 :]]


def fits_together(
    kinds: Mapping[str, Kind], capacity: Mapping[str, int], parts: Sequence[Sequence[str]]
) -> bool:
    return all(
        sum(max(kinds[name].needs.get(place, 0) for name in part) for part in parts) <= total
        for place, total in capacity.items()
    )


def best_groups(
    kinds: Mapping[str, Kind], capacity: Mapping[str, int], asks: Sequence[Ask]
) -> Victims | None:
    """Return the partition with the fewest seconds of loading for these arrivals, taken one after the other."""
    best: tuple[float, list[list[str]]] | None = None
    cache: dict[frozenset[str], float] = {}
    for parts in partitions(sorted(kinds)):
        if not fits_together(kinds, capacity, parts):
            continue
        seconds = 0.0
        for part in parts:
            key = frozenset(part)
            if key not in cache:
                cache[key] = _swap_seconds(kinds, asks, key)
            seconds += cache[key]
        if best is None or seconds < best[0]:
            best = (seconds, parts)
    return None if best is None else groups_rule([frozenset(part) for part in best[1]])


def _swap_seconds(kinds: Mapping[str, Kind], asks: Sequence[Ask], group: frozenset[str]) -> float:
    seconds, there = 0.0, None
    for ask in asks:
        if ask.model in group and ask.model != there:
            seconds, there = seconds + kinds[ask.model].load_s, ask.model
    return seconds


def safe_count(kinds: Mapping[str, Kind], capacity: Mapping[str, int]) -> int:
    n = 1
    while n < len(kinds) and all(fit(kinds, capacity, chosen) for chosen in combinations(kinds, n + 1)):
        n += 1
    return n


def fewest(
    kinds: Mapping[str, Kind],
    capacity: Mapping[str, int],
    asks: Sequence[Ask],
    prices: Mapping[str, float],
) -> float:
    """Return the lowest sum of prices of loads with which anybody answers the arrivals in their order.

    Every set of models that may be loaded is followed (Belady's rule is not enough where sizes differ).
    """

    @cache
    def kept(held: frozenset[str], model: str) -> list[frozenset[str]]:
        """Return the largest sets that may be loaded once the model is."""
        sets: list[frozenset[str]] = []
        for size in range(len(held), -1, -1):
            for others in combinations(sorted(held), size):
                chosen = frozenset({*others, model})
                if not any(chosen <= larger for larger in sets) and fit(kinds, capacity, chosen):
                    sets.append(chosen)
        return sets

    cheapest = {frozenset[str](): 0.0}
    for model, _ in groupby(ask.model for ask in asks):
        after: dict[frozenset[str], float] = {}
        for held, price in cheapest.items():
            loads = model not in held
            for chosen in kept(held, model) if loads else (held,):
                after[chosen] = min(after.get(chosen, inf), price + loads * prices[model])
        cheapest = after
    return min(cheapest.values())
