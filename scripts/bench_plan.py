"""Plans against engines: what is planned loads, stays within every budget, and uses devices as well as llama.cpp's own fit.

    scripts/bench plan [--vulkan LLAMA_SERVER] [--other LLAMA_SERVER] [--part a b c d]

The loads need a Vulkan engine, the newest that was built here where none is named, and software GPUs.

(a) eight cases on two and three software GPUs with unequal reserves: log against ledger and budget, expert
bytes on devices against `--fit on` with the same margins. (b) a host too small: exit 3 here, "fits" from
--fit. (c) Kimi K2.5, all quants, on every machine profile: seconds and simulations. (d) the same plan
compiled for another engine starts there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.plan import plan_on
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import MachineChoice, machine_names, probe
from launcher.deployment.ports import free_port
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine, find_engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.errors import DoesNotFit
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Machine
from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.plan.amounts import HOST
from launcher.plan.plan import Plan
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload
from launcher.simulate.simulations import Simulations
from launcher.system.settings import Settings, read_settings
from launcher.units import MIB
from tests.make_gguf import Types, make_gguf
from tests.plan.test_real_load import allocated, load

MOST_SECONDS = 6.0
MOST_SIMULATIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model on software GPUs of 2048 MiB each, so much of each kept free (MiB)."""

    architecture: str
    reserve: tuple[int, ...]
    ctx_size: int
    numbers: tuple[tuple[str, int], ...] = ()
    n_parallel: int = 1


BIG = (("n_block", 24), ("n_ff_exp", 768))
CASES = (
    Case(architecture="qwen3moe", reserve=(1800, 1500), ctx_size=4096, numbers=BIG),
    Case(architecture="qwen3moe", reserve=(1500, 1850), ctx_size=8192, numbers=BIG),
    Case(architecture="qwen3moe", reserve=(1700, 1600), ctx_size=8192, numbers=BIG, n_parallel=4),
    Case(architecture="deepseek2", reserve=(1700, 1800), ctx_size=4096),
    Case(architecture="deepseek2", reserve=(1850, 1650), ctx_size=8192, n_parallel=2),
    Case(architecture="qwen3moe", reserve=(1850, 1750, 1600), ctx_size=4096, numbers=BIG),
    Case(architecture="qwen3moe", reserve=(1600, 1850, 1750), ctx_size=8192, numbers=BIG),
    Case(architecture="deepseek2", reserve=(1850, 1700, 1800), ctx_size=4096),
)


def main(arguments: list[str]) -> int:
    """Run the parts whose engines were given; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench plan")
    parser.add_argument("--vulkan", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--part", nargs="+", choices="abcd", default=list("abcd"))
    asked = parser.parse_args(arguments)
    settings = read_settings()
    failures = 0
    engine = find_engine(asked.vulkan, None, settings.engines_dir, backend=lambda: Backend.VULKAN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "a" in asked.part:
            failures += sum(
                not compare(index, case, engine, settings, folder)
                for index, case in enumerate(CASES, start=1)
            )
        if "b" in asked.part:
            failures += not small_host(engine, folder)
        if "d" in asked.part and asked.other is not None:
            other = find_engine(asked.other, None, settings.engines_dir)
            failures += not both_start(engine, other, settings, folder)
    if "c" in asked.part:
        failures += kimi_everywhere(settings, engine)
    print(f"\n{failures} missed" if failures else "\nall within limits")
    return 1 if failures else 0


def a_model(case: Case, folder: Path) -> Path:
    (path,) = make_gguf(
        folder / f"{case.architecture}-{len(case.numbers)}.gguf",
        case.architecture,
        types=Types(expert=GgmlType.Q4_0),
        numbers=dict(case.numbers),
        hollow=True,
    )
    return path


def choose(located: Located, box: Machine, case: Case, engine: Engine, settings: Settings) -> Choice:
    names = [device.id for device in box.devices]
    limits = Limits(reserve=tuple((name, mib * MIB) for name, mib in zip(names, case.reserve, strict=True)))
    with Simulations(located, engine, settings, box) as oracle:
        offer = Offer(
            quant="Q4_0", model=located.model, simulator=ModelSimulator(oracle=oracle, path=oracle.model)
        )
        workload = Workload(ctx_size=case.ctx_size, n_parallel=case.n_parallel, ubatch_size=512)
        return search([offer], Task(machine=box, workload=workload, limits=limits))


def compare(number: int, case: Case, engine: Engine, settings: Settings, folder: Path) -> bool:
    """One case of (a)."""
    variables = {"GGML_VK_VISIBLE_DEVICES": ",".join("0" for _ in case.reserve)}
    os.environ |= variables
    path = a_model(case, folder)
    choice = choose(open_path(path), probe(here_with(), engine=engine), case, engine, settings)
    title = f"({number}) {case.architecture} c{case.ctx_size} np{case.n_parallel} reserve {case.reserve}"
    if choice.plan is None:
        print(f"{title}: no plan: {choice.shortfall.reasons[0] if choice.shortfall else ''}")
        return False
    plan = choice.plan
    found = allocated(load(planned_argv(plan, path, engine, settings), variables))
    within, apart = True, 0.0
    for row in plan.ledger:
        real = sum(found[row.where, kind] for kind in ("weights", "kv", "compute"))
        ours = sum(amount.n_bytes for amount in (row.weights, row.kv, row.compute)) / MIB
        apart = max(apart, abs(real - ours))
        within &= real * MIB <= row.budget_bytes
    fitted = allocated(load(fit_argv(case, path, engine), variables))
    mine = sum(mib for (where, kind), mib in found.items() if where != HOST and kind == "weights")
    theirs = sum(mib for (where, kind), mib in fitted.items() if where != HOST and kind == "weights")
    good = within and apart <= 1.0 and mine + 0.01 >= theirs
    print(
        f"{title}: {'ok' if good else 'MISSED'}; within budgets {within}, at most {apart:.2f} MiB from the ledger, "
        f"weights on devices {mine:.1f} MiB, --fit {theirs:.1f} MiB, {choice.n_simulations} simulations"
    )
    return good


def planned_argv(plan: Plan, path: Path, engine: Engine, settings: Settings) -> tuple[str, ...]:
    serving = Serving(host="127.0.0.1", port=free_port("127.0.0.1"), model_id="m", model_path=str(path))
    return server_argv(
        plan, serving, program=str(engine.path), capabilities=read_capabilities(engine, settings.cache_dir)
    )


def fit_argv(case: Case, path: Path, engine: Engine) -> tuple[str, ...]:
    margins = ",".join(str(mib) for mib in case.reserve)
    size = ("-c", str(case.ctx_size), "-np", str(case.n_parallel), "-kvu", "-lm", "none", "-lv", "4")
    port = ("--port", str(free_port("127.0.0.1")))
    return (str(engine.path), "-m", str(path), "-fit", "on", "-fitt", margins, *size, *port)


def small_host(engine: Engine, folder: Path) -> bool:
    """(b) Compare answers where RAM is too small for the experts that have to stay there.

    launcher exits 3; --fit looks at devices alone, says that it fits, and goes on.
    """
    os.environ |= {"GGML_VK_VISIBLE_DEVICES": "0,0"}
    reserve, max_ram_mib = (1700, 1700), 600
    case = Case(architecture="qwen3moe", reserve=reserve, ctx_size=4096, numbers=BIG)
    path = a_model(case, folder)
    wish = ("-c", "4096", "--reserve", f"{reserve[0]}M", "--engine", str(engine.path), "--json")
    roomy, tight = (
        subprocess.run(
            [sys.executable, "-m", "launcher", "plan", str(path), *wish, *limit],
            capture_output=True,
            text=True,
            check=False,
        )
        for limit in ((), ("--max-ram", f"{max_ram_mib}M"))
    )
    found = allocated(log := load(fit_argv(case, path, engine), {}))
    on_host = sum(mib for (where, _), mib in found.items() if where == HOST)
    fits = "successfully fit params to free device memory" in log
    why = json.loads(tight.stdout)["reasons"][0] if tight.returncode == DoesNotFit.exit_code else tight.stderr
    print(
        f"(b) {max_ram_mib} MiB of RAM for what devices do not hold: launcher plan exits {tight.returncode} ({why}), "
        f"without that limit {roomy.returncode}; llama-server --fit on says "
        f"{'that it fits' if fits else 'no'}, and takes {on_host:.0f} MiB of RAM"
    )
    return (roomy.returncode, tight.returncode, fits) == (
        0,
        DoesNotFit.exit_code,
        True,
    ) and on_host > max_ram_mib


def both_start(engine: Engine, other: Engine, settings: Settings, folder: Path) -> bool:
    """(d): one plan, two engines."""
    os.environ |= {"GGML_VK_VISIBLE_DEVICES": "0,0"}
    path = a_model(CASES[0], folder)
    choice = choose(open_path(path), probe(here_with(), engine=engine), CASES[0], engine, settings)
    if choice.plan is None:
        return False
    started = []
    for one in (engine, other):
        log = load(planned_argv(choice.plan, path, one, settings), {"GGML_VK_VISIBLE_DEVICES": "0,0"})
        started.append("reserve took" in log or "compute buffer size" in log)
    print(f"(d) the same plan starts the pinned engine {started[0]}, the other one {started[1]}")
    return all(started)


def kimi_everywhere(settings: Settings, engine: Engine) -> int:
    """(c): every profile, the second time, when headers and answers are warm."""
    missed, here = 0, here_with(offline=True)
    for name in machine_names(settings):
        machine = probe(here, MachineChoice(name=name))
        request = PlanRequest(ref="kimi-k2.5", machine=MachineChoice(name=name))
        target = inspect(here, request.ref)
        plan_on(here, request, target, machine, engine)
        begun = time.perf_counter()
        planned = plan_on(here, request, target, replace(machine), engine)
        seconds = time.perf_counter() - begun
        choice = planned.choice
        good = seconds <= MOST_SECONDS and choice.n_simulations <= MOST_SIMULATIONS
        missed += not good
        chosen = choice.plan.quant if choice.plan else "nothing fits"
        print(
            f"(c) {name:20} {seconds:5.2f} s, {choice.n_simulations} simulations, {chosen}"
            f"{'' if good else '  MISSED'}"
        )
    return missed
