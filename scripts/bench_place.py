"""Lay out models on made-up fleets: seconds of computing, what is placed, and what moves when machines are lost.

  scripts/bench place [--runs N]

The exit status is 1 where a layout breaks a rule, depends on the order of its input, moves what was not lost, or takes
longer than its limit (best of N runs).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from launcher.plan.placement.group.place import place
from launcher.plan.placement.group.values import Layout, Node
from tests.plan.placement.group.fleet import broken, catalogue, fleet

CASES = ((1000, 50, 1, 0.3), (1000, 50, 6, None), (5000, 200, 1, 2.0))
"""Machines, models, how many times the usual replicas, and the seconds that it may take."""
LOST = 0.05


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench place", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args(arguments).runs
    return max([_case(*case, runs) for case in CASES])


def _case(n_nodes: int, n_models: int, times: int, limit_s: float | None, runs: int) -> int:
    nodes = fleet(n_nodes)
    models = [replace(one, replicas=one.replicas * times) for one in catalogue(n_models)]
    layout, seconds = _timed(lambda: place(nodes, models), runs)
    again = place(list(reversed(nodes)), list(reversed(models)))
    lost = {each.name for each in random.Random(5).sample(nodes, int(n_nodes * LOST))}
    rest = [each for each in nodes if each.name not in lost]
    repaired, repair_s = _timed(lambda: place(rest, models, layout.placed), runs)
    touched = {p for p in layout.placed if any(seat.machine in lost for seat in p.seats)}
    moved = set(layout.placed) - set(repaired.placed)
    splits = sum(len(placed.seats) > 1 for placed in layout.placed)
    print(
        f"{n_nodes} machines, {n_models} models: {len(layout.placed)} replicas placed ({splits} split), "
        f"{len(layout.missing)} missing, {_used(nodes, layout):.0%} of device bytes, {seconds * 1e3:.0f} ms"
        f"{'' if limit_s is None else f' (limit {limit_s * 1e3:.0f})'}; "
        f"{len(lost)} lost: {repair_s * 1e3:.0f} ms, {len(touched)} touched, {len(moved)} moved"
    )
    wrong = [*broken(nodes, models, layout), *broken(rest, models, repaired)]
    wrong += ["another order, another layout"] * (again != layout) + ["moved what stood"] * (moved != touched)
    wrong += ["too slow"] * (limit_s is not None and seconds > limit_s)
    for line in wrong[:10]:
        print(f"  WRONG {line}", file=sys.stderr)
    return bool(wrong)


def _timed(act: Callable[[], Layout], runs: int) -> tuple[Layout, float]:
    best = float("inf")
    for _ in range(runs):
        begin = time.process_time()  # of one thread that waits for nothing
        layout = act()
        best = min(best, time.process_time() - begin)
    return layout, best


def _used(nodes: list[Node], layout: Layout) -> float:
    used = sum(part.n_bytes for p in layout.placed for share in p.plan.shares for part in share.parts)
    return used / sum(sum(each.device_bytes) for each in nodes)
