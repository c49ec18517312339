"""llama-fit-params and the same fit on virtual devices, on one command line each."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from launcher.engine.flags.command_line import read_command
from launcher.engine.flags.memory_names import FIRST_SPELLING
from launcher.engine.flags.user_flags import split_flags
from launcher.plan.check.configuration import question_of_configuration, used_devices
from launcher.plan.check.fit import fit_question
from launcher.plan.oracle import FitQuestion, Fitted
from launcher.simulate.client import SimulatorPool
from tests.simulate.engine_log import software_gpus

GAVE_UP, ABORTED = "gave up", "aborted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line as fit leaves it."""

    ctx_size: int
    n_gpu_layers: int
    tensor_split: tuple[int, ...]
    overrides: tuple[str, ...]


def by_tool(tool: Path, model: Path, n_gpus: int, flags: str) -> Outcome | str:
    """Return what llama-fit-params prints."""
    done = subprocess.run(
        [str(tool), "-m", str(model), *shlex.split(flags)],
        env={**os.environ, "GGML_VK_VISIBLE_DEVICES": ",".join("0" * n_gpus)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode:
        return ABORTED if done.returncode < 0 else GAVE_UP
    printed = shlex.split(done.stdout.strip().splitlines()[-1])
    values = {name: words[-1] for name, words in split_flags(printed)}
    split = tuple(int(part) for part in values.get("-ts", "").split(",") if part)
    rules = tuple(
        rule.removesuffix("=CPU") + "=host" if rule.endswith("=CPU") else rule
        for rule in values.get("-ot", "").split(",")
        if rule
    )
    return Outcome(int(values["-c"]), int(values["-ngl"]), split, rules)


def by_simulator(simulators: SimulatorPool, model: Path, n_gpus: int, flags: str) -> Outcome | str:
    """Return what the engine's own fit makes of the line on virtual devices."""
    fitted = simulators.fit(tool_question(model, n_gpus, flags))
    if not isinstance(fitted, Fitted):
        return ABORTED if "ended by SIGABRT" in fitted.reason else fitted.reason
    if fitted.gave_up:
        return GAVE_UP
    split = [int(share) for share in fitted.tensor_split]
    while split and not split[-1]:
        split.pop()
    return Outcome(
        ctx_size=fitted.ctx_size,
        n_gpu_layers=-1 if fitted.n_gpu_layers is None else fitted.n_gpu_layers,
        tensor_split=tuple(split) if len(split) > 1 else (),
        overrides=tuple(f"{rule.pattern}={rule.where}" for rule in fitted.overrides),
    )


def tool_question(model: Path, n_gpus: int, flags: str) -> FitQuestion:
    """Return the question with that tool's parameters: one slot, no pool, logits for the whole ubatch."""
    configuration = read_command([f"llama-server {flags}"]).configuration
    if not any(FIRST_SPELLING.get(name) == "-np" for name, _ in split_flags(shlex.split(flags))):
        configuration = replace(configuration, n_parallel=1)
    configuration = replace(configuration, kv_unified=False)
    devices = used_devices(configuration, software_gpus(n_gpus))
    question = question_of_configuration(configuration, str(model), devices, 0, ())
    asked = fit_question(configuration, question, psutil.virtual_memory().total)
    # overrides as typed: whether they find a tensor is no matter to fit
    given = replace(asked.question, n_outputs=0, overrides=configuration.overrides)
    return replace(asked, question=given)
