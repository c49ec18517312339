"""Swap by memory against count-based LRU and hand-tuned exclusive groups, on the same arrivals, in simulated time.

LRU      llama.cpp's router: at most 4 models, the least recently used idle one goes. It does not look at memory: a
         load that does not fit fails, and so does its request. "LRU n" is the same with the largest number that can
         never overrun this machine, as a careful owner would set it.
groups   llama-swap: of each group one model at a time. The groups are those, of all partitions whose largest members
         fit together, with the fewest seconds of loading on arrivals of another day.
oracle   the same, with the groups that are best for the very arrivals that are measured: nobody knows them before.
gateway  launcher.gateway.admission, as it runs.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from statistics import mean

from launcher.gateway.admission.state import Policy
from tests.gateway.admission.world import Ask, Kind, World

G = 1 << 30
STOP_S, REQUESTS = 1.0, 3000
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


def loading_s(needs: Mapping[str, int]) -> float:
    return 1.5 + sum(needs.values()) / (1.5 * G)  # a good disk, and what every start costs


def arrivals(chance: random.Random, names: Sequence[str], gap_s: float) -> list[Ask]:
    """Users who stay with a model for some requests; some models are everybody's favourites."""
    weights = [1 / (rank + 1) for rank in range(len(names))]
    asks: list[Ask] = []
    at = 0.0
    while len(asks) < REQUESTS:
        at += chance.expovariate(1 / gap_s)
        [model] = chance.choices(names, weights)
        when = at
        for _ in range(1 + int(chance.expovariate(1 / 4))):
            asks.append(Ask(when, model, chance.uniform(1, 12)))
            when += chance.expovariate(1 / 20)
    return sorted(asks, key=lambda ask: ask.at)[:REQUESTS]


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
        if self.overruns(model):  # out of memory, found out by loading
            lost = [index for index in self.waiting if self.asks[index].model == model]
            self.result.failed += len(lost)
            self.waiting = [index for index in self.waiting if index not in lost]
            return
        self.moving[model] = "load"
        self.push(now + self.kinds[model].load_s, "loaded", model)

    def overruns(self, model: str) -> bool:
        there = [self.kinds[name].needs for name in (*self.ready, *self.moving, model)]
        return any(
            sum(needs.get(place, 0) for needs in there) > total for place, total in self.capacity.items()
        )


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


def best_groups(kinds: Mapping[str, Kind], capacity: Mapping[str, int], asks: Sequence[Ask]) -> Victims:
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
    assert best is not None
    return groups_rule([frozenset(part) for part in best[1]])


def _swap_seconds(kinds: Mapping[str, Kind], asks: Sequence[Ask], group: frozenset[str]) -> float:
    seconds, there = 0.0, None
    for ask in asks:
        if ask.model in group and ask.model != there:
            seconds, there = seconds + kinds[ask.model].load_s, ask.model
    return seconds


def safe_count(kinds: Mapping[str, Kind], capacity: Mapping[str, int]) -> int:
    n = 1
    while n < len(kinds) and all(
        sum(kinds[name].needs.get(place, 0) for name in chosen) <= total
        for chosen in combinations(kinds, n + 1)
        for place, total in capacity.items()
    ):
        n += 1
    return n


def gateway(kinds: Mapping[str, Kind], capacity: Mapping[str, int], asks: Sequence[Ask]) -> Result:
    world = World(
        capacity, kinds, Policy(slack_bytes=0, most_waiting=1 << 30, most_wait_s=1e9), stop_s=STOP_S
    )
    outcome = world.run(asks)
    return Result([*outcome.waits.values()], outcome.loads, len(outcome.refused))


def machines() -> Iterator[tuple[str, dict[str, int], dict[str, Kind]]]:
    """Yield machines with the models their owners would have; needs by device and RAM, in GiB."""

    def kinds(**needs: Mapping[str, float]) -> dict[str, Kind]:
        made = {}
        for name, by_place in needs.items():
            in_bytes = {place: int(n * G) for place, n in by_place.items()}
            made[name] = Kind(in_bytes, loading_s(in_bytes), ttl_s=None)
        return made

    yield (
        "laptop, 16 GiB of RAM",
        {"ram": 12 * G},
        kinds(
            chat={"ram": 5.2},
            small={"ram": 1.8},
            embed={"ram": 0.4},
            complete={"ram": 1.2},
            vision={"ram": 6.0},
            think={"ram": 9.4},
            rerank={"ram": 0.7},
            tiny={"ram": 0.3},
        ),
    )
    yield (
        "one GPU of 24 GiB, 64 GiB of RAM",
        {"GPU0": 23 * G, "ram": 56 * G},
        kinds(
            chat={"GPU0": 9, "ram": 1},
            coder={"GPU0": 19, "ram": 1},
            moe={"GPU0": 14, "ram": 38},
            embed={"ram": 0.6},
            complete={"GPU0": 2.5, "ram": 0.5},
            vision={"GPU0": 7, "ram": 1},
            rerank={"GPU0": 1.2, "ram": 0.4},
            small={"GPU0": 4, "ram": 0.5},
            think={"GPU0": 16, "ram": 2},
        ),
    )
    yield (
        "GPUs of 24 and 12 GiB, 96 GiB of RAM",
        {"GPU0": 23 * G, "GPU1": 11 * G, "ram": 88 * G},
        kinds(
            chat={"GPU1": 9, "ram": 1},
            coder={"GPU0": 19, "ram": 1},
            moe={"GPU0": 20, "GPU1": 9, "ram": 60},
            embed={"ram": 0.6},
            complete={"GPU1": 2.5, "ram": 0.5},
            vision={"GPU0": 7, "ram": 1},
            rerank={"GPU1": 1.2, "ram": 0.4},
            small={"GPU0": 4, "ram": 0.5},
            think={"GPU0": 21, "GPU1": 6, "ram": 2},
        ),
    )
    yield (
        "eight GPUs: 4 of 80, 4 of 24 GiB; 512 GiB of RAM",
        {f"GPU{i}": (78 if i < 4 else 23) * G for i in range(8)} | {"ram": 480 * G},
        kinds(
            kimi={f"GPU{i}": 70 if i < 4 else 20 for i in range(8)} | {"ram": 240},
            large={"GPU0": 70, "GPU1": 70, "ram": 4},
            coder={"GPU2": 60, "ram": 2},
            chat={"GPU3": 40, "ram": 2},
            vision={"GPU4": 18, "ram": 2},
            embed={"GPU5": 2, "ram": 1},
            rerank={"GPU5": 2, "ram": 1},
            small={"GPU6": 9, "ram": 1},
            complete={"GPU7": 12, "ram": 1},
        ),
    )


def measure(
    kinds: Mapping[str, Kind], capacity: Mapping[str, int], gap_s: float, seeds: int
) -> dict[str, Result]:
    totals: dict[str, Result] = {}
    n = safe_count(kinds, capacity)
    for seed in range(seeds):
        asks = arrivals(random.Random(seed), sorted(kinds), gap_s)
        yesterday = arrivals(random.Random(seed + 1000), sorted(kinds), gap_s)
        tuned = {
            "LRU 4": lru(4),
            f"LRU {n}": lru(n),
            "groups": best_groups(kinds, capacity, yesterday),
            "oracle": best_groups(kinds, capacity, asks),
        }
        results = {rule: Baseline(kinds, capacity, asks, victims).run() for rule, victims in tuned.items()}
        for rule, result in (results | {"gateway": gateway(kinds, capacity, asks)}).items():
            total = totals.setdefault(rule, Result())
            total.waits += result.waits
            total.loads += result.loads
            total.failed += result.failed
    return totals


def main(arguments: Sequence[str]) -> int:
    seeds = int(arguments[0]) if arguments else 3
    print(__doc__)
    for name, capacity, kinds in machines():
        for gap_s in (30.0, 90.0):
            totals = measure(kinds, capacity, gap_s, seeds)
            print(f"\n{name}; a user every {gap_s:.0f} s, {seeds} x {REQUESTS} requests")
            print(f"{'':10} {'mean s':>9} {'p95 s':>9} {'loads':>7} {'failed':>7}")
            for rule, result in totals.items():
                print(f"{rule:10} {result.line()}")
            ours = totals.pop("gateway")
            others = [result for rule, result in totals.items() if rule != "oracle" and not result.failed]
            wait = mean(ours.waits) / min(mean(other.waits) for other in others)
            loads = ours.loads / min(other.loads for other in others)
            print(f"{'':10} {wait:8.2f}x {'':9} {loads:6.2f}x  of the best of those that fail nothing")
    return 0
