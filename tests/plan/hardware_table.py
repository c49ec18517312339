#!/usr/bin/env python3
"""The hardware table that everybody copies for Kimi K2.5, claim beside verdict: `python tests/plan/hardware_table.py`
writes tests/golden/kimi-hardware-table.txt anew.

Claims: a popular article's table and its two "deployments", as copied in many places. Verdicts: the planner's
own, on the shipped machine profiles, with the headers of the shipped recipe; BF16 is the same shapes in BF16.
`GPUs alone` allows 32 GiB of RAM, for the engine and what always stays on the host.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from launcher.gguf.ggml import GgmlType
from launcher.gguf.model import ModelFile
from launcher.gguf.synthesis import TypeRule
from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import Machine
from launcher.models.profiles.from_toml import parse_model_profile
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.profile import ModelProfile, QuantRecipe, RecipeBasis
from launcher.plan.amounts import HOST
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, format_bytes

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "kimi-hardware-table.txt"
CONTEXT = 32768
ALONE = Limits(max_ram_bytes=32 * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    claim: str
    quant: str
    machine: str


ROWS = (
    Row(claim="FP16, ~2 TB: 8x H100 80GB, fastest", quant="BF16", machine="8xh100-80g"),
    Row(claim="INT4 (QAT), ~630 GB: 8x A100 80GB, fast", quant="INT4", machine="8xa100-80g"),
    Row(
        claim="INT4, 630 GB: 2x H100 80GB, 50-100 tokens/s, high concurrency",
        quant="INT4",
        machine="2xh100-80g",
    ),
    Row(claim="Q2_K_XL, ~375 GB: 4x A100 + 256 GB RAM, medium", quant="Q2_K_XL", machine="4xa100-80g-256g"),
    Row(
        claim="TQ1_0, ~240 GB: 1x 24 GB GPU + 256 GB RAM, 1-2 tokens/s",
        quant="TQ1_0",
        machine="1x4090-24g-256g",
    ),
)


def profile() -> ModelProfile:
    return parse_model_profile((ROOT / "profiles/models/kimi-k2.5.toml").read_text(), "kimi-k2.5")


def kimi(quant: str) -> ModelFile:
    """A quant of the shipped profile, or `BF16`."""
    shipped = profile()
    if quant == "BF16":
        f32 = TypeRule(match="norm|exp_probs_b|ffn_gate_inp", types=(GgmlType.F32,))
        rules = (f32, TypeRule(match=".", types=(GgmlType.BF16,)))
        recipe = QuantRecipe(basis=RecipeBasis.PUBLISHED, source="all BF16", rules=rules)
        one = replace(shipped.quants[0], name=quant, label=quant, size_bytes=None, recipe=recipe)
    else:
        one = next(one for one in shipped.quants if one.name == quant)
    made = make_headers(shipped, one)
    assert made is not None
    return made[0]


def shipped_machine(name: str) -> Machine:
    return parse_machine((ROOT / f"profiles/machines/{name}.toml").read_text(), name)


def verdict(row: Row, limits: Limits | None = None) -> Choice:
    task = Task(
        machine=shipped_machine(row.machine),
        workload=Workload(ctx_size=CONTEXT),
        limits=limits or Limits(),
    )
    return search([Offer(quant=row.quant, model=kimi(row.quant))], task)


def sentence(choice: Choice) -> str:
    """The verdict in one line."""
    if choice.plan is None:
        short = choice.shortfall
        assert short is not None
        return f"does not fit, {short.where} is {format_bytes(short.missing_bytes)} short"
    plan = choice.plan
    assert plan.forecast is not None
    speed = plan.forecast.decode
    host = next(row for row in plan.ledger if row.where == HOST)
    return (
        f"fits, {len(plan.placement.host_expert_blocks)} of 60 blocks' experts on the host, which holds "
        f"{format_bytes(host.weights.n_bytes)}; {speed.low:.1f}-{speed.high:.1f} tokens/s"
    )


def render() -> str:
    lines = [f"Kimi K2.5 at a context of {CONTEXT}, one request at a time", ""]
    for row in ROWS:
        size = kimi(row.quant).size_bytes
        lines += [
            f"claim:      {row.claim}",
            f"size:       {row.quant} is {size / 1e9:.1f} GB ({format_bytes(size)})",
            f"GPUs alone: {sentence(verdict(row, ALONE))}",
            f"with RAM:   {sentence(verdict(row))} ({row.machine})",
            "",
        ]
    wrapped = (textwrap.wrap(line, 110, subsequent_indent=" " * 12) or [""] for line in lines)
    return "\n".join(part for parts in wrapped for part in parts)


if __name__ == "__main__":
    GOLDEN.write_text(render())
    print(GOLDEN.read_text())
