"""Published speeds as stages: tests/plan/forecast/speeds.csv.

An excerpt of public measurements; a rig is a thread's or a host's, and stays on one side of every split. What
a post gives is as posted (`depth`, `ubatch`, speeds, `source`); bytes and arithmetic per token follow from the
posted buffers or file size and the model's published shape. `ram_gb_s` is what the memory is named (channels
x MT/s x 8). Rows with an L are `launcher bench`'s own. Left out of the table of 310: rows without the file's
size or the placement, other engines, rows whose CPU is not named, several requests at once.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.machine.gpus import gpu_named, idle_device
from launcher.machine.machine import Link
from launcher.plan.forecast.decode import Attention, Stage
from launcher.plan.forecast.prefill import Prompt
from launcher.plan.forecast.processors import (
    CORE_FLOPS,
    GB,
    Processor,
    ProcessorFamily,
    link_speed,
    processor_of,
)
from launcher.units import GIB

ROWS = Path(__file__).with_name("speeds.csv")
MAINLINE = "llama.cpp"
IK = "ik"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    row: dict[str, str]
    stages: tuple[Stage, ...]

    @property
    def rig(self) -> str:
        return self.row["rig"]

    @property
    def on_host(self) -> bool:
        return float(self.row["host_read_gb"]) > 0

    @property
    def depth(self) -> int:
        return int(self.row["depth"])

    @property
    def decode(self) -> float | None:
        """Tokens/s, if they were measured."""
        return float(self.row["decode_tps"]) if self.row["decode_tps"] else None

    @property
    def prompt(self) -> Prompt | None:
        """The prompt, if its speed was measured and the batch is known."""
        if not (self.row["prefill_tps"] and self.row["ubatch"] and self.row["pp_tokens"]):
            return None
        tokens = int(self.row["pp_tokens"])
        return Prompt(n_tokens=tokens, ubatch=int(self.row["ubatch"]), depth=self.depth)

    @property
    def prefill(self) -> float:
        return float(self.row["prefill_tps"])


def measured(engine: str = MAINLINE) -> tuple[Measured, ...]:
    with ROWS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["engine"] == engine]
    return tuple(Measured(row=row, stages=_stages(row)) for row in rows)


def _stages(row: dict[str, str]) -> tuple[Stage, ...]:
    number = {key: float(row[key]) for key in row if key.endswith(("_gb", "_gflop", "_bytes", "_flops"))}
    host_held = number["host_held_gb"] * GB
    attention = Attention(
        per_depth=number["attention_flops"],
        windowed=number["windowed_flops"],
        head_size=int(row["head_size"]),
    )
    host = Stage(
        processor=_host(row),
        n_layers=float(row["n_layers"]),
        read_bytes=number["host_read_gb"] * GB,
        held_bytes=host_held,
        flops=number["host_gflop"] * GB,
        kv_bytes=number["kv_bytes"],
        latent=row["latent"] == "1",
        attention=attention,
        n_embd=int(row["n_embd"]),
        expert_share=float(row["expert_share"]),
    )
    if not row["gpu"]:
        return (replace(host, whole_layers=host.n_layers),)
    card = replace(
        host,
        processor=_card(row),
        read_bytes=number["gpu_read_gb"] * GB,
        held_bytes=number["gpu_held_gb"] * GB,
        flops=(number["gpu_gflop"] + number["host_gflop"]) * GB,
        streamed_bytes=host_held,
    )
    beside = replace(host, kv_bytes=0, streamed_bytes=host_held, attention=Attention())
    return (card, beside) if host_held else (card,)


def _card(row: dict[str, str]) -> Processor:
    processor = processor_of(idle_device(gpu_named(row["gpu"]), id="GPU0", ram_bytes=128 * GIB))
    if processor.link is None:
        return processor
    return replace(processor, link=link_speed(Link(pcie_generation=int(row["pcie"]), pcie_width=16)))


def _host(row: dict[str, str]) -> Processor:
    return Processor(
        name="host",
        family=ProcessorFamily.HOST,
        bandwidth=float(row["ram_gb_s"]) * GB,
        flops=float(row["cores"]) * CORE_FLOPS,
        cores=int(row["cores"]),
        sockets=int(row["sockets"]),
    )
