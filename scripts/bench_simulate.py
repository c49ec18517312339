"""The simulator against the engines: their own logs row by row, llama-fit-params, and its time for Kimi K2.5.

  scripts/bench simulate [ENGINE] [--vulkan ENGINE] [--other ENGINE] [--model FILE]... [--only PART]...

ENGINE is a llama-server of the pinned version and `--vulkan` the same for Vulkan (1 to 3 software GPUs): by
default those that `launcher engine build` made. `--other` is a Vulkan llama-server of another commit, by
default the pinned wheel's; `--model` adds real models. Parts, all of them by default:

  cpu, vulkan   llama-server's own log, every row within 0.1 MiB and graph splits equal
  rpc           the log of a head with 1 to 3 ggml-rpc-servers on loopback, on processors and software GPUs, every row
                within 0.01 MiB; Kimi K2.5 over 2 and 3 of them as llama-fit-params has it, every MiB
  other         the engine of another commit, simulated by its own libraries: weights and cache within 0.1 MiB, compute
                no lower and at most 5 % or 4 MiB higher
  archs         every architecture of test-llama-archs as llama-fit-params has it, every MiB; divided by
                --split-mode tensor as llama-server's log has it
  widths        models of real widths, hollow, in quantised types, as llama-fit-params has them: within 1 % or 4 MiB
  kimi          Kimi K2.5 on 8 x 80 GiB: seconds cold and warm, and the worker's peak memory

What is not there is skipped with its reason. The exit status is 1 where anything is out of its bound.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from launcher.engine.find import read_engines
from launcher.errors import LauncherError
from launcher.machine.machine import Backend, Device
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import SimulatorPool
from launcher.system.settings import read_settings
from launcher.units import GIB, MIB
from tests.fetched import gemma3_270m, other_engine
from tests.make_gguf import make_gguf
from tests.simulate.cases import any_commit, configurations, describe
from tests.simulate.engine_log import (
    OTHER_COMPUTE,
    OTHER_MIB,
    ROUNDING_MIB,
    differences,
    load_with_engine,
    out_of_bounds,
    software_gpus,
    split_tensor_disagreements,
)
from tests.simulate.fit_params import (
    disagreements,
    fit_print,
    largest_gap,
    question_like_fit,
    simulate_fit,
)
from tests.simulate.real_model_sizes import AT_LEAST_MIB, PART, width_cases
from tests.simulate.rpc_peers import KIMI_ON_PEERS, on_peers, rpc_peers

PARTS = ("cpu", "vulkan", "rpc", "other", "archs", "widths", "kimi")
RPC_ROUNDING_MIB = 0.01
ARCH_CTX_SIZES = (1024, 8192, 16384)
HYBRIDS = ("falcon-h1-dense", "qwen3next-moe", "kimi-linear-moe")
"""Of test-llama-archs: state space and attention in parallel, gated delta net, KDA."""
DEFAULT_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
KIMI_DEVICES = 8
KIMI_CTX = 131072
KIMI_RUNS = 5
KIMI_COLD_S, KIMI_WARM_S = 2.0, 1.0
"""What a simulation of it may take."""


@dataclass(slots=True)
class Report:
    """What was compared, what was out of bounds, what was left out."""

    compared: int = 0
    wrong: int = 0
    skipped: list[str] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        self.skipped.append(f"{what}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The engines, the simulator on the pinned libraries, and the models. `archs` are test-llama-archs' files."""

    engine: Path
    vulkan: Path | None
    other: Path | None
    simulators: SimulatorPool
    folder: Path
    models: dict[str, Path]
    archs: tuple[Path, ...]
    report: Report


def main(arguments: list[str]) -> int:
    sys.stdout.reconfigure(line_buffering=True)  # a line for each comparison, to a file as well
    given = _arguments(arguments)
    parts = {
        "cpu": _cpu,
        "vulkan": _vulkan,
        "rpc": _rpc,
        "other": _other,
        "archs": _archs,
        "widths": _widths,
        "kimi": _kimi,
    }
    with ExitStack() as stack:
        bench = _bench(given, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        for name in given.only or PARTS:
            parts[name](bench)
    report = bench.report
    for line in report.skipped:
        print(f"SKIPPED {line}")
    print(f"\n{report.compared} comparisons, {report.wrong} out of bounds")
    return 1 if report.wrong else 0


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("engine", type=Path, nargs="?", default=_built(Backend.CPU))
    parser.add_argument("--vulkan", type=Path, default=_built(Backend.VULKAN))
    parser.add_argument("--other", type=Path)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--only", choices=PARTS, action="append")
    given = parser.parse_args(arguments)
    if given.engine is None:
        parser.error("no engine: launcher engine build, or name a llama-server")
    return given


def _built(backend: Backend) -> Path | None:
    engines = read_engines(read_settings().engines_dir)
    return next((one.path for one in engines if one.build and one.build.backend is backend), None)


def _bench(given: argparse.Namespace, folder: Path, stack: ExitStack) -> Bench:
    report = Report()
    archs = _write_archs(given.engine, folder / "architectures", report)
    other = given.other
    if other is None and "other" in (given.only or PARTS):
        other = _fetched(other_engine, "the engine of another commit", report)
    return Bench(
        engine=given.engine,
        vulkan=given.vulkan,
        other=other,
        simulators=stack.enter_context(SimulatorPool(given.engine.resolve().parent)),
        folder=folder,
        models=_models(folder, archs, given.model, report),
        archs=archs,
        report=report,
    )


def _fetched(fetch: Callable[[Path], Path], what: str, report: Report) -> Path | None:
    try:
        return fetch(read_settings().cache_dir)
    except LauncherError as error:
        report.skip(what, error.message)
        return None


def _write_archs(engine: Path, into: Path, report: Report) -> tuple[Path, ...]:
    tool = engine.resolve().parent / "test-llama-archs"
    if not tool.exists():
        report.skip("architectures", f"no test-llama-archs beside {engine}")
        return ()
    into.mkdir()
    subprocess.run([tool, "-o", into], check=True, capture_output=True)
    return tuple(sorted(into.glob("*.gguf")))


def _models(folder: Path, archs: tuple[Path, ...], named: list[Path], report: Report) -> dict[str, Path]:
    """Synthetic ones, hybrids, and real ones: tied embeddings, a sliding window."""
    found = {
        arch: make_gguf(folder / f"{arch}.gguf", arch, hollow=True)[0]
        for arch in ("deepseek2", "qwen3moe", "gemma3", "llama")
    }
    found |= {path.stem: any_commit(path, folder) for path in archs if path.stem in HYBRIDS}
    default = next(iter(sorted(read_settings().models_dir.rglob(DEFAULT_MODEL))), None)
    if default is None:
        report.skip("the default model", "it is not here (launcher pull smollm2-135m)")
    gemma = _fetched(gemma3_270m, "gemma-3-270m", report)
    return found | {path.stem: path for path in (default, gemma, *named) if path is not None}


def _cpu(bench: Bench) -> None:
    _print_rows(bench, "CPU", bench.engine, configurations(bench.models, ()))


def _vulkan(bench: Bench) -> None:
    if bench.vulkan is None:
        bench.report.skip("Vulkan", "no engine for it (launcher engine build --backend vulkan, or --vulkan)")
        return
    _print_rows(bench, "Vulkan", bench.vulkan, _on_devices(bench.models))


def _rpc(bench: Bench) -> None:
    folders = [(bench.engine, (Backend.CPU,) * 3, 0)]
    if bench.vulkan is None:
        bench.report.skip("GPUs on RPC peers", "no engine for them")
    else:
        folders += [
            (bench.vulkan, (Backend.VULKAN,) * 3, 0),
            (bench.vulkan, (Backend.VULKAN, Backend.CPU), 1),
        ]
    for server, backends, n_own in folders:
        kinds = ", ".join([*backends, *["the head's own"] * n_own])
        cases = _with_peers(bench, server.resolve().parent, backends, n_own)
        _print_rows(bench, f"RPC peers ({kinds})", server, cases, rounding_mib=RPC_ROUNDING_MIB)
    _kimi_on_peers(bench)


def _with_peers(
    bench: Bench, folder: Path, backends: tuple[Backend, ...], n_own: int
) -> Iterator[tuple[str, Question]]:
    """Yield every configuration with peers of its own: one whose head was killed may compute on for minutes."""
    for name, model in bench.models.items():
        for number in itertools.count():
            with rpc_peers(folder, backends) as peers:
                cases = list(on_peers(name, model, (*peers, *software_gpus(n_own))))
                if number == len(cases):
                    break
                yield cases[number]


def _kimi_on_peers(bench: Bench) -> None:
    (model,) = make_gguf(bench.folder / "kimi-rpc.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)
    folder = bench.engine.resolve().parent
    for n_peers, ctx_size, changes in KIMI_ON_PEERS:
        with rpc_peers(folder, (Backend.CPU,) * n_peers) as peers:
            question = question_like_fit(model, ctx_size, peers, **changes)
            real = fit_print(folder / "llama-fit-params", question)
        simulated = simulate_fit(bench.simulators, question)
        what = describe("Kimi K2.5", n_peers, {"ctx_size": ctx_size, **changes})
        print(f"{what}: {'every MiB' if simulated == real else f'WRONG {simulated} simulated, {real} real'}")
        bench.report.compared += 1
        bench.report.wrong += simulated != real


def _other(bench: Bench) -> None:
    if bench.other is None:
        return
    with SimulatorPool(bench.other.resolve().parent) as its_own:
        _print_rows(bench, "another commit", bench.other, _on_devices(bench.models), its_own)


def _on_devices(models: dict[str, Path]) -> Iterator[tuple[str, Question]]:
    for what, question in configurations(models, software_gpus(3)):
        if question.devices:
            yield what, question


def _print_rows(
    bench: Bench,
    title: str,
    server: Path,
    cases: Iterator[tuple[str, Question]],
    its_own: SimulatorPool | None = None,
    rounding_mib: float = ROUNDING_MIB,
) -> None:
    """One line for each configuration: buffers compared, the largest gaps either way."""
    print(f"\n{title}: {server}\n{'configuration':72} buffers   below   above  splits")
    for what, question in cases:
        bench.report.compared += 1
        if not _print_row(what, server, question, bench.simulators, its_own, rounding_mib):
            bench.report.wrong += 1


def _print_row(
    what: str,
    server: Path,
    question: Question,
    simulators: SimulatorPool,
    its_own: SimulatorPool | None,
    rounding_mib: float,
) -> bool:
    answer = (its_own or simulators).simulate(question)
    if not isinstance(answer, Answer):
        print(f"{what:72} REFUSED {answer.reason}")
        return False
    try:
        load = load_with_engine(server, question, old_flags=its_own is not None)
    except AssertionError as error:
        print(f"{what:72} NOT LOADED {str(error).splitlines()[-1][:60]}")
        return False
    part, at_least_mib = (OTHER_COMPUTE, OTHER_MIB) if its_own else (0.0, rounding_mib)
    gaps = differences(load, answer)
    wrong = out_of_bounds(load, answer, of_compute=part, at_least_mib=at_least_mib)
    if rounding_mib < ROUNDING_MIB:
        wrong = {key: gap for key, gap in gaps.items() if abs(gap) > rounding_mib}
    splits = "same" if load.splits == answer.graph_splits else f"{answer.graph_splits} not {load.splits}"
    holds = not wrong and load.splits == answer.graph_splits
    print(
        f"{what:72} {len(gaps):7} {min(0.0, *gaps.values()):7.2f} {max(0.0, *gaps.values()):7.2f}  {splits}"
        + ("" if holds else f"  WRONG {wrong}")
    )
    return holds


def _fit_tools(bench: Bench) -> Iterator[tuple[Path, tuple[Device, ...]]]:
    """llama-fit-params, and the devices it is asked about."""
    yield bench.engine.resolve().parent / "llama-fit-params", ()
    if bench.vulkan is not None:
        for count in (1, 2):
            yield bench.vulkan.resolve().parent / "llama-fit-params", software_gpus(count)


def _archs(bench: Bench) -> None:
    if not bench.archs:
        return
    if bench.vulkan is None:
        bench.report.skip("architectures on devices", "no Vulkan engine")
    print(f"\n{len(bench.archs)} architectures of test-llama-archs against llama-fit-params")
    for tool, devices in _fit_tools(bench):
        for ctx_size in ARCH_CTX_SIZES:
            found = disagreements(tool, bench.simulators, bench.archs, devices, ctx_size)
            where = f"{len(devices)} software GPUs" if devices else "CPU"
            print(f"{where:16} context {ctx_size:6}: {len(bench.archs) - len(found)} agree")
            for name, (simulated, real) in found.items():
                print(f"  {name}: {simulated} simulated, {real} real")
            bench.report.compared += len(bench.archs)
            bench.report.wrong += len(found)
    if bench.vulkan is not None:
        _print_split_tensors(bench, bench.vulkan)


def _print_split_tensors(bench: Bench, vulkan: Path) -> None:
    answered, found = split_tensor_disagreements(vulkan, bench.simulators, bench.archs, software_gpus(2))
    print(
        f"--split-mode tensor on 2 software GPUs: {len(bench.archs) - len(found)} as llama-server, "
        f"{answered} of them loaded, the rest refused by both"
    )
    for name, what in found.items():
        print(f"  {name}: {what}")
    bench.report.compared += len(bench.archs)
    bench.report.wrong += len(found)


def _widths(bench: Bench) -> None:
    folder = bench.folder / "widths"
    folder.mkdir()
    print(f"\nreal widths against llama-fit-params\n{'configuration':72} largest gap, MiB")
    for tool, devices in ((bench.engine, ()), (bench.vulkan, software_gpus(3))):
        if tool is None:
            bench.report.skip("real widths on devices", "no Vulkan engine")
            continue
        for what, question in width_cases(folder, devices):
            real = fit_print(tool.resolve().parent / "llama-fit-params", question)
            simulated = simulate_fit(bench.simulators, question)
            bench.report.compared += 1
            if isinstance(simulated, str):
                print(f"{what:72} REFUSED {simulated}")
                bench.report.wrong += 1
                continue
            gap, holds = largest_gap(simulated, real, part=PART, at_least_mib=AT_LEAST_MIB)
            print(f"{what:72} {gap:4}" + ("" if holds else f"  WRONG {simulated} simulated, {real} real"))
            bench.report.wrong += not holds


def _kimi(bench: Bench) -> None:
    (path,) = make_gguf(
        bench.folder / "kimi.gguf", "deepseek2", preset="kimi-k2.5", vocabulary="bpe", hollow=True
    )
    devices = tuple(
        Device(id=f"CUDA{i}", backend=Backend.CUDA, name="A100", total_bytes=80 * GIB, free_bytes=None)
        for i in range(KIMI_DEVICES)
    )
    question = Question(model=str(path), devices=devices, ctx_size=KIMI_CTX)
    with SimulatorPool(bench.engine.resolve().parent) as simulators:
        cold = _seconds(lambda: simulators.simulate(question))
        warm = [_seconds(lambda: simulators.simulate(question)) for _ in range(KIMI_RUNS)]
        peak = _newest_worker_peak()
    print(
        f"\nKimi K2.5 ({path.stat().st_size / 1e9:.0f} GB hollow, BPE) on {KIMI_DEVICES} x 80 GiB at {KIMI_CTX}: "
        f"cold {cold:.2f} s, warm {min(warm):.2f} s (best of {KIMI_RUNS}), worker's peak {peak / MIB:.0f} MiB"
    )
    bench.report.compared += 2
    bench.report.wrong += (cold > KIMI_COLD_S) + (min(warm) > KIMI_WARM_S)


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _newest_worker_peak() -> int:
    """VmHWM of the worker that was started last, bytes."""
    worker = max(psutil.Process().children(), key=lambda process: process.create_time())
    status = Path(f"/proc/{worker.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
