"""Swap by memory against count-based LRU and hand-tuned exclusive groups, on the same arrivals, in simulated time.

LRU      llama.cpp's router: at most 4 models, the least recently used idle one goes. It does not look at memory: a
         load that does not fit fails, and so does its request. "LRU n" is the same with the largest number that can
         never overrun this machine, as a careful owner would set it.
groups   llama-swap: of each group one model at a time. The groups are those, of all partitions whose largest members
         fit together, with the fewest seconds of loading on arrivals of another day.
gateway  launcher.gateway.admission, as it runs.
offline  no program but a bound: the fewest loads, and the fewest seconds of loading a request, of anybody who knows
         all arrivals before, answers them in their order, in no time, and loads a model when it is asked for.
         There are fewer loads only where requests wait, so that one load serves several.

Drawn machines, models and users come last: nothing was ever chosen by them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, mean, median

from launcher.gateway.admission.state import Policy
from scripts.admission_rivals import STOP_S, Baseline, Result, best_groups, fewest, fit, lru, safe_count
from tests.gateway.admission.world import Ask, Kind, World

G = 1 << 30
REQUESTS = 3000


@dataclass(frozen=True)
class Users:
    """How they come: a user stays with a model for some requests; some models are everybody's favourites."""

    gap_s: float  # between one user and the next
    requests: float = 4  # of a user, about
    pause_s: float = 20  # between two of them
    longest_s: float = 12  # that one is answered
    favour: float = 1.0  # 0: all models are liked alike
    n: int = REQUESTS

    def arrivals(self, chance: random.Random, names: Sequence[str]) -> list[Ask]:
        weights = [1 / (rank + 1) ** self.favour for rank in range(len(names))]
        asks: list[Ask] = []
        at = 0.0
        while len(asks) < self.n:
            at += chance.expovariate(1 / self.gap_s)
            [model] = chance.choices(names, weights)
            when = at
            for _ in range(1 + int(chance.expovariate(1 / self.requests))):
                asks.append(Ask(when, model, chance.uniform(self.longest_s / 12, self.longest_s)))
                when += chance.expovariate(1 / self.pause_s)
        return sorted(asks, key=lambda ask: ask.at)[: self.n]


def loading_s(needs: Mapping[str, int], gib_a_s: float = 1.5) -> float:
    return 1.5 + sum(needs.values()) / (gib_a_s * G)  # a good disk, and what every start costs


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


def drawn(chance: random.Random) -> tuple[dict[str, int], dict[str, Kind], Users]:
    """Return a machine, models that do not all fit, and users, none of which anybody has thought out."""
    n_gpus, ram = chance.choice([0, 1, 1, 2, 2, 3, 4, 8]), chance.choice([8, 12, 16, 32, 64, 128])
    gpus = {f"GPU{i}": chance.choice([8, 12, 16, 24, 32, 48, 80]) * G for i in range(n_gpus)}
    capacity = {"ram": ram * G, **gpus}
    gib_a_s = chance.choice([0.5, 1.0, 1.5, 3.0, 6.0])
    kinds: dict[str, Kind] = {}
    for index in range(chance.randint(4, 9)):
        share = chance.choice([0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.9])
        on = chance.sample(sorted(gpus), min(n_gpus, chance.choice([0, 1, 1, 1, 2, 3, 8])))
        needs = {place: int(capacity[place] * share * chance.uniform(0.8, 1.05)) for place in on}
        needs["ram"] = int(ram * G * (chance.choice([0.03, 0.05, 0.4]) if on else share))
        kinds[f"m{index}"] = Kind(needs, loading_s(needs, gib_a_s), ttl_s=None)
    users = Users(
        gap_s=chance.choice([15, 30, 60, 90, 180]),
        requests=chance.choice([1, 3, 4, 8]),
        pause_s=chance.choice([5, 20, 60]),
        longest_s=chance.choice([4, 12, 30]),
        favour=chance.choice([0.0, 0.5, 1.0, 1.5]),
        n=1000,
    )
    return (capacity, kinds, users) if not fit(kinds, capacity, kinds) else drawn(chance)


def measure(
    kinds: Mapping[str, Kind], capacity: Mapping[str, int], users: Users, seeds: Iterable[int]
) -> dict[str, Result]:
    totals: dict[str, Result] = {}
    n = safe_count(kinds, capacity)
    for seed in seeds:
        asks = users.arrivals(random.Random(seed), sorted(kinds))
        yesterday = users.arrivals(random.Random(seed + 1000), sorted(kinds))
        rules = {"LRU 4": lru(4), f"LRU {n}": lru(n), "groups": best_groups(kinds, capacity, yesterday)}
        results = {rule: Baseline(kinds, capacity, asks, who).run() for rule, who in rules.items() if who}
        loads = fewest(kinds, capacity, asks, dict.fromkeys(kinds, 1.0))
        seconds = fewest(kinds, capacity, asks, {name: kind.load_s for name, kind in kinds.items()})
        results["gateway"] = gateway(kinds, capacity, asks)
        results["offline"] = Result([seconds / len(asks)] * len(asks), round(loads))
        for rule, result in results.items():
            total = totals.setdefault(rule, Result())
            total.waits += result.waits
            total.loads += result.loads
            total.failed += result.failed
    return totals


def shares(totals: Mapping[str, Result], rule: str) -> tuple[float, float]:
    """Return the mean wait and the loads, each as a share of the better rival's that fails nothing."""
    rivals = [r for name, r in totals.items() if name not in {"gateway", "offline"} and not r.failed]
    ours = totals[rule]
    return (
        mean(ours.waits) / min(mean(rival.waits) for rival in rivals),
        ours.loads / min(rival.loads for rival in rivals),
    )


def main(arguments: Sequence[str]) -> int:
    seeds, n_drawn = ([int(each) for each in arguments] + [3, 40][len(arguments) :])[:2]
    print(__doc__)
    for name, capacity, kinds in machines() if seeds else ():
        for gap_s in (30.0, 90.0):
            totals = measure(kinds, capacity, Users(gap_s), range(seeds))
            print(f"\n{name}; a user every {gap_s:.0f} s, {seeds} x {REQUESTS} requests")
            print(f"{'':10} {'mean s':>9} {'p95 s':>9} {'loads':>7} {'failed':>7}")
            for rule, result in totals.items():
                print(f"{rule:10} {result.line()}")
            for rule in ("gateway", "offline"):
                wait, loads = shares(totals, rule)
                print(f"{rule:10} {wait:8.2f}x {'':9} {loads:6.2f}x  of the best of those that fail nothing")
    print(f"\n{n_drawn} machines, models and users as they were drawn, 1000 requests each")
    results = []
    for seed in range(n_drawn):
        capacity, kinds, users = drawn(random.Random(seed))
        results.append(measure(kinds, capacity, users, [seed]))
    for rule in ("gateway", "offline") if results else ():
        for what, each in zip(
            ("wait", "loads"), zip(*(shares(totals, rule) for totals in results), strict=True), strict=True
        ):
            middle = f"mean {geometric_mean(each):.2f}x, median {median(each):.2f}x"
            print(f"{rule:10} {what:6} {middle}, best {min(each):.2f}x, worst {max(each):.2f}x")
    return 0
