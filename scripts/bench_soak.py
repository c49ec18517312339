"""Mixed requests to three real models in room for two, with kills and freezes of engines and of the gateway.

scripts/bench soak [--gpus] [REQUESTS [CLIENTS]]; needs an engine that was built here, and smollm2-135m. OpenAI's,
Anthropic's and Ollama's own clients ask, streaming and not, and for embeddings. What is lost has to be explained by
what was killed at that moment, what engines take by their own logs has to stay within the budget, and at the end nothing
is held. The models lie in RAM, or with --gpus on two software GPUs, each with a memory of its own that holds one.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from launcher.engine.find import find_engine
from launcher.machine.machine import Backend
from launcher.system.settings import read_settings
from tests.conftest import DEFAULT_MODEL
from tests.real.gateway_process import BUDGET, running, serving
from tests.real.gpus_with_budget import DEVICES, VISIBLE, make_engine
from tests.real.soak import EMBEDDING_FLAGS, Report, Soak

DISTURBANCES = ("engine", "engine", "gateway", "engine", "freeze", "engine", "gateway", "engine")
MIB = 1 << 20
GPU_BYTES = 1300 * MIB  # of which a plan leaves 0.8 GiB free: one model takes 0.4
RAM_BESIDE_GPUS = 500 * MIB  # two models of which all layers are on GPUs take 0.2 each; one that is not, 0.3


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench soak")
    parser.add_argument("requests", nargs="?", type=int, default=500)
    parser.add_argument("clients", nargs="?", type=int, default=8)
    parser.add_argument("--gpus", action="store_true")
    options = parser.parse_args(arguments)
    print(__doc__)
    settings = read_settings()
    backend = Backend.VULKAN if options.gpus else Backend.CPU
    engine = find_engine(None, None, settings.engines_dir, backend=lambda: backend)
    model = next(settings.models_dir.rglob(DEFAULT_MODEL))
    budgets = {"RAM": BUDGET}
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAUNCHER_HOME"] = home
        if options.gpus:
            budgets = {"RAM": RAM_BESIDE_GPUS, **dict.fromkeys(DEVICES, GPU_BYTES)}
            os.environ.update(VISIBLE, PYTHONPATH=str(Path(__file__).resolve().parents[1]))
            engine = make_engine(engine, Path(home) / "engine", GPU_BYTES // MIB)
        with serving(engine, model, Path(home), EMBEDDING_FLAGS, max_ram=budgets["RAM"]) as served:
            tell = functools.partial(print, flush=True)
            soak = Soak(served, seed=1, tell=tell, devices=tuple(budgets)[1:])
            report = soak.run(options.requests, clients=options.clients, disturbances=DISTURBANCES)
            served.unload_all()
            held = sum(place["held_bytes"] for place in served.status()["memory"].values())
            left = len(running())
    taken = {"RAM": report.most_bytes, **report.most_on}
    print_report(report, taken, budgets)
    print(f"at the end: {held} bytes held, {left} engines")
    is_over = any(taken.get(place, 0) > n_bytes for place, n_bytes in budgets.items())
    is_unused = any(not report.most_on.get(device) for device in tuple(budgets)[1:])
    return int(bool(report.unexcused or is_over or is_unused or held or left))


def print_report(report: Report, taken: Mapping[str, int], budgets: Mapping[str, int]) -> None:
    waits = sorted(report.waits)
    print(f"{sum(report.answered.values())} answered in {report.seconds:.0f} s, {report.loads} loads")
    print(
        f"  seconds     median {median(waits):.1f}, 95 % {waits[int(len(waits) * 0.95)]:.1f}, longest {waits[-1]:.1f}"
    )
    for kind, count in sorted(report.answered.items()):
        print(f"  {kind:18} {count}")
    print(f"done to them: {', '.join(f'{end.what} ({end.who})' for end in report.ends)}")
    print(f"lost {len(report.losses)}, of which {len(report.unexcused)} are not explained by that")
    for loss in report.losses:
        print(
            f"  {'' if loss not in report.unexcused else 'NOT EXPLAINED '}{loss.model} {loss.kind}: {loss.words[:150]}"
        )
    print(f"engines at once {report.most_engines}; at most by their logs")
    for place, n_bytes in budgets.items():
        print(f"  {place:10} {taken.get(place, 0) / MIB:5.0f} of {n_bytes / MIB:.0f} MiB")
