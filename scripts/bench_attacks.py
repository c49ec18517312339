"""Every parser of what others may have written, on bent files: worst time and memory, how many are refused.

    scripts/bench attacks [--count 2000] [--seed 1]

Every answer is a value or one sentence; the bounds are 5 s and 200 MiB, for anything.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from launcher.units import MIB
from tests.attacks.hostile import bent
from tests.attacks.parsers import PARSERS, REFUSALS, Parser

MOST_SECONDS, MOST_BYTES = 5.0, 200 * MIB


def main(arguments: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="scripts/bench attacks", description=__doc__)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args(arguments)
    print(f"{'format':16}{'inputs':>8}{'refused':>9}{'worst':>11}{'mean':>10}{'memory':>11}")
    failures = 0
    for name, make in PARSERS.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LAUNCHER_HOME"] = f"{folder}/home"
            failures += not measure(name, make(Path(folder)), asked.count, asked.seed)
    return 1 if failures else 0


def measure(name: str, parser: Parser, count: int, seed: int) -> bool:
    """Read `count` bent texts twice: timed, then with its memory traced, which is slow."""
    times, refused = [], 0
    for data in bent(parser.good, count, seed):
        began = time.perf_counter()
        try:
            parser.read(data)
        except REFUSALS:
            refused += 1
        times.append(time.perf_counter() - began)
    tracemalloc.start()
    for data in bent(parser.good, min(count, 300), seed):
        try:
            parser.read(data)
        except REFUSALS:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    good = max(times) <= MOST_SECONDS and peak <= MOST_BYTES
    print(
        f"{name:16}{count:>8}{refused:>9}{max(times) * 1000:>8.1f} ms{sum(times) / count * 1000:>7.2f} ms"
        f"{peak / MIB:>7.1f} MiB{'' if good else '  OVER THE BOUND'}",
        flush=True,
    )
    return good
