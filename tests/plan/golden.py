#!/usr/bin/env python3
"""Plans as text, for people to review: `python tests/plan/golden.py` writes tests/golden/plan-*.txt anew."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from launcher.engine.flags.argv import Serving, server_argv
from launcher.gguf.ggml import GgmlType
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, format_bytes
from tests.plan.planned import make_plan
from tests.plan.shapes import device, machine, model

FOLDER = Path(__file__).parents[1] / "golden"

CASES: dict[str, tuple[ModelFile, Machine, Workload]] = {
    "kimi-8xh200": (
        model("deepseek2", "kimi-k2.5"),
        machine(*(device(index, 139 * GIB) for index in range(8)), ram_bytes=2048 * GIB),
        Workload(ctx_size=131072, n_parallel=4),
    ),
    "kimi-5090-768g": (
        model("deepseek2", "kimi-k2.5"),
        machine(device(0, 31 * GIB), ram_bytes=768 * GIB),
        Workload(ctx_size=65536),
    ),
    "qwen3-235b-3090-3060": (
        model("qwen3moe", "qwen3-235b", expert=GgmlType.Q4_K),
        machine(device(0, 23 * GIB, display=True), device(1, 11 * GIB), ram_bytes=160 * GIB),
        Workload(ctx_size=32768),
    ),
    "gemma3-27b-cpu-64g": (model("gemma3", "gemma-3-27b"), machine(), Workload()),
    "kimi-2xh100": (
        model("deepseek2", "kimi-k2.5"),
        machine(device(0, 79 * GIB), device(1, 79 * GIB), ram_bytes=512 * GIB),
        Workload(ctx_size=131072),
    ),
}


def render(name: str) -> str:
    """One plan or shortfall: the ledger, the reasons, the command line."""
    file, box, workload = CASES[name]
    outcome = make_plan(file, "Q4_0", box, workload)
    lines = [f"{outcome.model_id} {format_bytes(outcome.size_bytes)}, context {outcome.ctx_size}"]
    for row in outcome.ledger:
        kinds = zip(("weights", "kv", "compute", "cache", "overhead", "extra"), row.amounts, strict=True)
        parts = ", ".join(
            f"{kind} {format_bytes(amount.n_bytes)}"
            + (f" ± {format_bytes(amount.band_bytes)}" if amount.band_bytes else "")
            for kind, amount in kinds
            if amount.n_bytes
        )
        lines.append(
            f"{row.where}: {parts}; {format_bytes(row.free_bytes)} of {format_bytes(row.budget_bytes)} left"
        )
    lines += [f"- {reason}" for reason in outcome.reasons]
    if isinstance(outcome, Plan):
        where = Serving(host="127.0.0.1", port=8123, model_id=outcome.model_id, model_path="model.gguf")
        lines.append(" ".join(server_argv(outcome, where)))
    else:
        lines.append(
            f"short of {format_bytes(outcome.missing_bytes)} on {outcome.where}; fits: {outcome.hints}"
        )
    wrapped = (textwrap.wrap(line, 110, subsequent_indent="    ", break_on_hyphens=False) for line in lines)
    return "\n".join(part for parts in wrapped for part in parts) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        (FOLDER / f"plan-{case}.txt").write_text(render(case))
