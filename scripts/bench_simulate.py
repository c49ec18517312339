"""The simulator against the engine's own log, row by row, and its time for Kimi K2.5.

  scripts/bench simulate ENGINE [--vulkan ENGINE] [--other ENGINE] [--model FILE]...

ENGINE is a llama-server of the pinned version; `--vulkan` the same for Vulkan (1 to 3 software GPUs); `--other`
a Vulkan llama-server of another commit; `--model` adds real models to the synthetic ones. With
test-llama-archs beside ENGINE, its 128 architectures are compared with llama-fit-params as well.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.machine import Backend, Device
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import Simulators
from launcher.units import GIB
from tests.make_gguf import make_gguf
from tests.simulate.cases import configurations
from tests.simulate.engine_log import EngineLoad, differences, load_with_engine, software_gpus
from tests.simulate.test_every_architecture import disagreements
from tests.simulate.test_tensor import unlike

ROUNDING_MIB = 0.1
KIMI_DEVICES = 8
KIMI_CTX = 131072
KIMI_RUNS = 5


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench simulate", description=__doc__.split("\n\n")[0])
    parser.add_argument("engine", type=Path)
    parser.add_argument("--vulkan", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--model", type=Path, action="append", default=[])
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, Simulators(given.engine.resolve().parent) as simulators:
        models = _models(Path(folder), given.model)
        wrong = _print_rows("CPU", given.engine, simulators, configurations(models, ()))
        if given.vulkan:
            wrong += _print_rows("Vulkan", given.vulkan, simulators, _on_devices(models))
        if given.other:
            _print_rows("another commit", given.other, simulators, _on_devices(models), old_flags=True)
        wrong += _print_architectures(Path(folder), simulators, given.engine, given.vulkan)
        _print_kimi(Path(folder), given.engine)
    print(f"\n{wrong} comparisons differ by more than {ROUNDING_MIB} MiB")
    return 1 if wrong else 0


def _models(folder: Path, named: list[Path]) -> dict[str, Path]:
    made = {
        arch: make_gguf(folder / f"{arch}.gguf", arch, hollow=True)[0]
        for arch in ("deepseek2", "qwen3moe", "gemma3", "llama")
    }
    return made | {path.stem: path for path in named}


def _on_devices(models: dict[str, Path]) -> Iterator[tuple[str, Question]]:
    for what, question in configurations(models, software_gpus(3)):
        if question.devices:
            yield what, question


def _print_rows(
    title: str,
    server: Path,
    simulators: Simulators,
    cases: Iterator[tuple[str, Question]],
    *,
    old_flags: bool = False,
) -> int:
    """One line for each configuration: buffers compared, the largest gaps either way; how many are wrong."""
    print(f"\n{title}: {server}\n{'configuration':64} buffers   below   above  splits")
    wrong = 0
    for what, question in cases:
        answer = simulators.simulate(question)
        if not isinstance(answer, Answer):
            print(f"{what:64} {answer.reason}")
            wrong += 1
            continue
        try:
            load = load_with_engine(server, question, old_flags=old_flags)
        except AssertionError as error:
            print(f"{what:64} {str(error).splitlines()[-1][:60]}")
            continue
        wrong += _print_row(what, load, answer)
    return wrong


def _print_row(what: str, load: EngineLoad, answer: Answer) -> int:
    gaps = differences(load, answer)
    below, above = min(0.0, *gaps.values()), max(0.0, *gaps.values())
    splits = "same" if load.splits == answer.graph_splits else f"{answer.graph_splits} not {load.splits}"
    print(f"{what:64} {len(gaps):7} {below:7.2f} {above:7.2f}  {splits}")
    return int(max(-below, above) > ROUNDING_MIB)


def _print_architectures(folder: Path, simulators: Simulators, engine: Path, vulkan: Path | None) -> int:
    tool = engine.resolve().parent / "test-llama-archs"
    if not tool.exists():
        print("\nno test-llama-archs beside the engine: architectures not compared")
        return 0
    into = folder / "architectures"
    into.mkdir()
    subprocess.run([tool, "-o", into], check=True, capture_output=True)
    models = tuple(sorted(into.glob("*.gguf")))
    wrong = 0
    for server, devices in ((engine, ()), (vulkan, software_gpus(2))):
        if server is None:
            continue
        found = disagreements(server.resolve().parent / "llama-fit-params", simulators, models, devices)
        print(
            f"\narchitectures on {len(devices) or 'CPU'}: {len(models) - len(found)} of {len(models)} as llama-fit-params"
        )
        for name, (simulated, real) in found.items():
            print(f"  {name}: {simulated} simulated, {real} real")
        wrong += len(found)
    if vulkan is not None:
        answered, unlike_the_engine = unlike(vulkan, simulators, models, software_gpus(2))
        n_alike = len(models) - len(unlike_the_engine)
        print(
            f"\narchitectures with --split-mode tensor on 2: {n_alike} of {len(models)} as llama-server, "
            f"{len(models) - answered} of them refused by both"
        )
        for name, what in unlike_the_engine.items():
            print(f"  {name}: {what}")
        wrong += len(unlike_the_engine)
    return wrong


def _print_kimi(folder: Path, engine: Path) -> None:
    (path,) = make_gguf(folder / "kimi.gguf", "deepseek2", preset="kimi-k2.5", vocabulary="bpe", hollow=True)
    devices = tuple(
        Device(id=f"CUDA{i}", backend=Backend.CUDA, name="A100", total_bytes=80 * GIB, free_bytes=None)
        for i in range(KIMI_DEVICES)
    )
    question = Question(model=str(path), devices=devices, ctx_size=KIMI_CTX)
    with Simulators(engine.resolve().parent) as simulators:
        cold = _seconds(lambda: simulators.simulate(question))
        warm = [_seconds(lambda: simulators.simulate(question)) for _ in range(KIMI_RUNS)]
    print(
        f"\nKimi K2.5 ({path.stat().st_size / 1e9:.0f} GB hollow, BPE) on {KIMI_DEVICES} x 80 GiB at {KIMI_CTX}: "
        f"cold {cold:.2f} s, warm {min(warm):.2f} s (best of {KIMI_RUNS})"
    )


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin
