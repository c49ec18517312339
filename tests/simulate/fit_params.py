"""llama-fit-params, llama.cpp's own no_alloc pass, asked what the simulator is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import SimulatorPool
from launcher.units import MIB
from tests.simulate.engine_log import server_argv

Fit = dict[str, tuple[int, ...]]
"""Device -> (model, context, compute) in whole MiB."""


def question_like_fit(model: Path, ctx_size: int, devices: tuple[Device, ...], **changes: object) -> Question:
    """Ask with that tool's parameters: one slot, no pool, logits for the whole ubatch."""
    return Question(
        model=str(model), devices=devices, ctx_size=ctx_size, kv_unified=False, n_outputs=0, **changes
    )


def fit_print(tool: Path, question: Question) -> Fit:
    """llama-fit-params --fit-print on."""
    visible = ",".join("0" * len(question.devices))
    flags = [
        flag for flag in server_argv(question) if flag not in {"-kvu", "--no-kv-unified"}
    ]  # the server's only
    command = [str(tool), *flags, "--fit-print", "on"]
    done = subprocess.run(
        command,
        env={**os.environ, "GGML_VK_VISIBLE_DEVICES": visible},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: tuple(int(word) for word in words[1:]) for words in lines if len(words) == 4}


def simulate_fit(simulators: SimulatorPool, question: Question) -> Fit | str:
    """Return the simulator's figures in the tool's form, or the reason of a refusal."""
    answer = simulators.simulate_like_fit(question)
    if not isinstance(answer, Answer):
        return answer.reason
    sums = {name: [0, 0, 0] for name in (*(device.id for device in question.devices), "Host")}
    for row in answer.rows:
        if row.buffer_type != "CPU_REPACK":  # which the tool does not count
            into = sums["Host" if row.where == HOST else row.where]
            into[0] += row.weights_bytes
            into[1] += row.kv_bytes + row.recurrent_bytes
            into[2] += row.compute_bytes
    return {name: tuple(size // MIB for size in sizes) for name, sizes in sums.items()}


def disagreements(
    tool: Path,
    simulators: SimulatorPool,
    models: Sequence[Path],
    devices: tuple[Device, ...],
    ctx_size: int = 1024,
) -> dict[str, tuple[Fit | str, Fit]]:
    """Return the models with a figure that differs, as simulated and as that tool prints it."""
    found: dict[str, tuple[Fit | str, Fit]] = {}
    for model in models:
        question = question_like_fit(model, ctx_size, devices)
        real, simulated = fit_print(tool, question), simulate_fit(simulators, question)
        if simulated != real:
            found[model.name] = (simulated, real)
    return found


def largest_gap(simulated: Fit, real: Fit, *, part: float, at_least_mib: int) -> tuple[int, bool]:
    """Return the largest difference in MiB, and if all are within `part` or `at_least_mib`."""
    assert simulated.keys() == real.keys()
    pairs = [pair for name in real for pair in zip(simulated[name], real[name], strict=True)]
    gaps = [(abs(ours - theirs), max(part * theirs, at_least_mib)) for ours, theirs in pairs]
    return max(gap for gap, _ in gaps), all(gap <= room for gap, room in gaps)
