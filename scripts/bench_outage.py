"""A model split over machines that are network namespaces: what an outage costs, until it is named and until it is over.

scripts/bench outage [--partition S] [--gone S] [--kills N] [--seed N]; takes root, sshd, a CPU engine that was built here, and smollm2-135m. A
peer's cable is out for S seconds; its machine is off for S seconds while another is alike; and N times a part is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil

from tests.deployment.cluster.machines import Lab, eventually, machines, own_engine_and_model, why_not

PARTS = {
    "server": "ggml-rpc-server -d",
    "relay": "rpc_relay.py",
    "rank": "launcher cluster rank",
    "tunnel": "ssh ",
    "gang": "cluster.run_gang",
    "head": "llama-server -m",
}
RETURN_S = 30.0  # after a machine came back: nothing may move


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench outage", description=__doc__)
    parser.add_argument("--partition", type=float, default=300.0)
    parser.add_argument("--gone", type=float, default=600.0)
    parser.add_argument("--kills", type=float, default=200)
    parser.add_argument("--seed", type=int, default=19)
    given = parser.parse_args(arguments)
    if (problem := why_not()) is not None:
        print(problem, file=sys.stderr)
        return 3
    engine, model = own_engine_and_model()
    random.seed(given.seed)
    wrong: list[str] = []
    for n_peers, act, amount in (
        (1, partition, given.partition),
        (2, machine_gone, given.gone),
        (1, kills, given.kills),
    ):
        if amount:
            with tempfile.TemporaryDirectory() as folder, machines(Path(folder), engine, n_peers) as lab:
                for peer in lab.peers:
                    lab.join(peer)
                url = lab.up(model)
                wrong += act(lab, url, amount)
                wrong += stopped(lab)
    for line in wrong:
        print(f"  WRONG {line}", file=sys.stderr)
    return bool(wrong)


class Watch:
    """Count servers of ranks while something lasts: two of one gang of one rank would hold its bytes twice."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.most = 0

    def until(self, look: Callable[[], object], limit_s: float = 180.0) -> float:
        def seen() -> object:
            self.most = max(self.most, len(self._lab.servers()))
            return look()

        return eventually(seen, limit_s)

    def for_seconds(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 60)


def _losses(lab: Lab) -> int:
    return lab.log().count("is lost")


def partition(lab: Lab, url: str, seconds: float) -> list[str]:
    (box,) = lab.peers
    watch, before, begin = Watch(lab), _losses(lab), time.monotonic()
    box.cut()
    named = watch.until(lambda: _losses(lab) > before)
    gone = watch.until(lambda: not lab.servers()) + named
    watch.for_seconds(max(0.0, seconds - (time.monotonic() - begin)))
    box.heal()
    back = watch.until(lambda: lab.answers(url))
    print(
        f"partition of {seconds:.0f} s: named after {named:.1f} s, the peer's server gone after {gone:.1f} s; "
        f"healed: answered after {back:.1f} s; at most {watch.most} server"
    )
    return ["a partition left two servers"] * (watch.most > 1) + ["not named within 15 s"] * (named > 15)


def machine_gone(lab: Lab, url: str, seconds: float) -> list[str]:
    first, spare = lab.by_rank()
    before, begin = _losses(lab), time.monotonic()
    first.lose_power()
    named = eventually(lambda: _losses(lab) > before)
    answered = eventually(lambda: lab.answers(url)) + named
    time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
    gangs = {each.pid for each in lab.head.processes("cluster.run_gang")}
    first.power_on()
    time.sleep(RETURN_S)
    moved = gangs != {each.pid for each in lab.head.processes("cluster.run_gang")}
    print(
        f"machine gone for {seconds:.0f} s: named after {named:.1f} s, answered from {spare.name} after {answered:.1f} s; "
        f"back: {'it moved' if moved else 'nothing moved'}"
    )
    return ["it moved when the machine came back"] * moved + ["not named within 15 s"] * (named > 15)


def kills(lab: Lab, url: str, count: float) -> list[str]:
    wrong = []
    waits: dict[str, list[float]] = {part: [] for part in PARTS}
    for number in range(int(count)):
        part = random.choice(list(PARTS))
        time.sleep(random.uniform(0.0, 2.0))  # also while it is raised
        running = _of(lab, part)
        if not running:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            running[-1].kill()
        time.sleep(0.3)
        waits[part].append(eventually(lambda: lab.answers(url)) + 0.3)
        servers, claims = len(lab.servers()), len(list(lab.peers[0].home.glob("state/claims/*.claim")))
        if servers != 1 or claims > 1:
            wrong.append(f"kill {number} ({part}): {servers} servers, {claims} claims")
    every = sorted(each for part in waits.values() for each in part)
    print(f"{len(every)} kills: next answer after {median(every):.1f} s, at worst {every[-1]:.1f} s")
    for part, seconds in waits.items():
        if seconds:
            print(
                f"  {part:8} {len(seconds):3} kills: {median(seconds):.1f} s, at worst {max(seconds):.1f} s"
            )
    return wrong


def _of(lab: Lab, part: str) -> Sequence[psutil.Process]:
    """Return processes of that part, the innermost last: a gang's own line has the words of what it starts."""
    machine = lab.peers[0] if part in {"server", "relay", "rank"} else lab.head
    running = machine.processes(PARTS[part])
    return sorted(running, key=lambda each: (each.name() in PARTS[part], each.pid))


def stopped(lab: Lab) -> list[str]:
    lab.head.launcher("stop", "smol")
    time.sleep(3.0)
    left = [each for machine in lab.machines for each in machine.processes()]
    left = [each for each in left if "sshd" not in each.name()]
    return [f"left running: {' '.join(each.cmdline())[:120]}" for each in left]
