"""A model split over 1 to 3 peers through ssh, beside the same model on one machine, asked in turns.

scripts/bench cluster [--rounds N] [--model FILE]; takes root, sshd, a CPU engine that was built here, and smollm2-135m.
Peers are network namespaces of this machine: a network as fast as memory, and processors that all of them share. Every
figure is the best of N rounds, and the memory of a rank is what its programs have to themselves (PSS), its server's
apart. Placement times are `scripts/bench place`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.deployment.cluster.remote import Remote
from launcher.deployment.cluster.seats import GangLayout, GangSpec, RankPlace, RankSeat, format_spec
from launcher.deployment.process import MARKER
from scripts.processes import running, wait_until
from tests.deployment.cluster.machines import Lab, machines, own_engine_and_model, why_not

PROMPT, ANSWER = 512, 64
MIB = 1 << 20
FLAGS = (
    "-c",
    "2048",
    "-np",
    "1",
    "-t",
    "1",
    "--metrics",  # which a gang asks for as a sign of life
    "--no-repack",  # as a peer, whose weights nothing repacks for its processor
    "-fit",
    "off",
    "--cache-ram",
    "0",
    "--offline",
    "--host",
    "127.0.0.1",
)


@dataclass
class Best:
    """The best of what was seen: tokens a second, and seconds until it was ready."""

    prompt: float = 0.0
    answer: float = 0.0
    load_s: float = float("inf")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--loads", type=int, default=3)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args(arguments)
    if (problem := why_not()) is not None:
        print(problem, file=sys.stderr)
        return 3
    engine, model = own_engine_and_model(given.model)
    with tempfile.TemporaryDirectory() as folder, machines(Path(folder), engine, 3) as lab:
        sha256 = [lab.join(peer)["engine_sha256"] for peer in lab.peers]
        for n_peers in (1, 2, 3):
            _compare(lab, model, sha256[0], n_peers, given)
    return 0


def _compare(lab: Lab, model: Path, sha256: str, n_peers: int, given: argparse.Namespace) -> None:
    server = (str(lab.engine.path), "-m", str(model), *FLAGS)
    local, split = Best(), Best()
    for last in range(given.loads, 0, -1):
        alone = (*server, "--port", "8001", "-ngl", "0")
        gang = _gang(lab, server, sha256, n_peers)
        with _running(lab, alone, 8001, local), _running(lab, gang, 8002, split):
            memory = _memory(lab)
            for _ in range(given.rounds if last == 1 else 0):
                _ask(lab, 8001, local)
                _ask(lab, 8002, split)
    print(
        f"{n_peers} peer{'s' * (n_peers > 1)}: prompt {split.prompt / local.prompt:.2f}, "
        f"generation {split.answer / local.answer:.2f} of local ({local.prompt:.0f} and {local.answer:.0f} tokens/s); "
        f"ready after {split.load_s:.1f} s, local {local.load_s:.1f} s; "
        f"a rank's own programs {', '.join(f'{each / MIB:.0f}' for each in memory)} MiB",
        flush=True,
    )


def _gang(lab: Lab, server: Sequence[str], sha256: str, n_peers: int) -> tuple[str, ...]:
    ports = [8100 + number for number in range(n_peers)]
    seats = tuple(
        RankSeat(
            places=(
                RankPlace(
                    node=peer.name,
                    remote=Remote(target=peer.name, program=lab.program(peer), config=str(lab.config)),
                    device="CPU",
                ),
            ),
            port=port,
            n_bytes=64 * MIB,
        )
        for peer, port in zip(lab.peers, ports, strict=False)
    )
    where = ("--rpc", ",".join(f"127.0.0.1:{port}" for port in ports), "-ngl", "99", "--port", "8002")
    argv = (server[0], *where, *server[1:])
    layout = GangLayout(seats=seats, argv=argv)
    spec = format_spec(GangSpec(name="bench", engine_sha256=sha256, layouts=(layout,)))
    return (sys.executable, "-P", "-m", "launcher.deployment.cluster.run_gang", spec, "--", *argv)


@contextlib.contextmanager
def _running(lab: Lab, argv: Sequence[str], port: int, best: Best) -> Iterator[None]:
    record = lab.head.home / "bench.json"
    record.parent.mkdir(exist_ok=True)
    begin = time.monotonic()
    with (
        (lab.folder / "bench.log").open("ab") as log,
        # its end is asked of the gang and of its llama-server, as a supervisor asks both
        running(lab.head.argv(*argv), env={**lab.head.variables, MARKER: str(record)}, log=log) as process,
    ):
        wait_until(lambda: _get(lab, port, "/health", None) is not None, process)
        best.load_s = min(best.load_s, time.monotonic() - begin)
        yield


def _ask(lab: Lab, port: int, best: Best) -> None:
    body = {"prompt": [7] * PROMPT, "n_predict": ANSWER, "ignore_eos": True, "cache_prompt": False}
    answer = _get(lab, port, "/completion", json.dumps(body).encode())
    assert answer is not None, "it did not answer"
    best.prompt = max(best.prompt, answer["timings"]["prompt_per_second"])
    best.answer = max(best.answer, answer["timings"]["predicted_per_second"])


def _get(lab: Lab, port: int, path: str, body: bytes | None) -> dict[str, dict[str, float]] | None:
    def get() -> dict[str, dict[str, float]] | None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)
        except OSError:
            return None

    with ThreadPoolExecutor(1, initializer=lab.head.enter) as there:
        return there.submit(get).result()


def _memory(lab: Lab) -> list[int]:
    """Return what each rank takes beside its server: the launcher that runs it, and the relay."""
    sizes = []
    for peer in lab.peers:
        own = [
            each
            for marks in ("launcher cluster rank", "rpc_relay.py")
            for each in peer.processes(marks)
            if each.name().startswith("python")
        ]
        if own:
            sizes.append(sum(each.memory_full_info().pss for each in own))
    return sizes
