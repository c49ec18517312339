"""Mixed requests to three real models in room for two, with kills and freezes of engines and of the gateway.

scripts/bench soak [REQUESTS [CLIENTS]]; needs a CPU engine that was built here, and smollm2-135m. OpenAI's, Anthropic's
and Ollama's own clients ask, streaming and not, and for embeddings. What is lost has to be explained by what was
killed at that moment, what engines take by their own logs has to stay within --max-ram, and at the end nothing is held.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from launcher.engine.find import find_engine
from launcher.machine.machine import Backend
from launcher.system.settings import read_settings
from tests.conftest import DEFAULT_MODEL
from tests.real.gateway_process import BUDGET, running, serving
from tests.real.soak import EMBEDDING_FLAGS, Report, Soak

DISTURBANCES = ("engine", "engine", "gateway", "engine", "freeze", "engine", "gateway", "engine")
MIB = 1 << 20


def main(arguments: Sequence[str]) -> int:
    print(__doc__)
    n, clients = ([int(word) for word in arguments] + [500, 8][len(arguments) :])[:2]
    settings = read_settings()
    engine = find_engine(None, None, settings.engines_dir, backend=lambda: Backend.CPU)
    model = next(settings.models_dir.rglob(DEFAULT_MODEL))
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAUNCHER_HOME"] = home
        with serving(engine, model, Path(home), EMBEDDING_FLAGS) as served:
            tell = functools.partial(print, flush=True)
            report = Soak(served, seed=1, tell=tell).run(n, clients=clients, disturbances=DISTURBANCES)
            served.unload_all()
            held = served.status()["memory"]["ram"]["held_bytes"]
            left = len(running())
    print_report(report, held, left)
    return int(bool(report.unexcused or report.most_bytes > BUDGET or held or left))


def print_report(report: Report, held: int, left: int) -> None:
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
    print(
        f"engines at once {report.most_engines}; by their logs {report.most_bytes / MIB:.0f} of {BUDGET / MIB:.0f} MiB"
    )
    print(f"at the end: {held} bytes held, {left} engines")
