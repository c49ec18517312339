"""Published speeds as stages: tests/plan/forecast/speeds.csv.

An excerpt of public measurements, one thread's or rig's rows all on one side of the split. What a post gives
is as posted (`depth`, `ubatch`, speeds, `source`); bytes and arithmetic per token follow from the posted
buffers or file size and the model's published shape. `ram_gb_s` is what the memory is named (channels x MT/s
x 8).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.gpus import gpu_named, idle_device
from launcher.machine.machine import Link
from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.processors import GB, Processor, ProcessorFamily, link_speed, processor_of

ROWS = Path(__file__).with_name("speeds.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    row: dict[str, str]
    stages: tuple[Stage, ...]

    @property
    def on_host(self) -> bool:
        return float(self.row["host_read_gb"]) > 0


def measured(split: str | None = None) -> tuple[Measured, ...]:
    with ROWS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if split in {None, row["split"]}]
    return tuple(Measured(row=row, stages=_stages(row)) for row in rows)


def _stages(row: dict[str, str]) -> tuple[Stage, ...]:
    number = {key: float(row[key]) for key in row if key.endswith(("_gb", "_gflop", "_bytes"))}
    stages = []
    layers = float(row["n_layers"])
    host_held = number["host_held_gb"] * GB
    latent = row["latent"] == "1"
    if row["gpu"]:
        device = idle_device(gpu_named(row["gpu"]), id="GPU0", ram_bytes=0)
        processor = processor_of(device)
        if processor.link is not None:
            link = link_speed(Link(pcie_generation=int(row["pcie"]), pcie_width=16))
            processor = Processor(
                name="GPU0",
                family=processor.family,
                bandwidth=processor.bandwidth,
                flops=processor.flops,
                link=link,
            )
        stages.append(
            Stage(
                processor=processor,
                n_layers=layers,
                read_bytes=number["gpu_read_gb"] * GB,
                held_bytes=number["gpu_held_gb"] * GB,
                flops=(number["gpu_gflop"] + number["host_gflop"]) * GB,
                kv_bytes=number["kv_bytes"],
                latent=latent,
                streamed_bytes=host_held,
            )
        )
    if host_held:
        stages.append(
            Stage(
                processor=Processor(
                    name="host",
                    family=ProcessorFamily.HOST,
                    bandwidth=float(row["ram_gb_s"]) * GB,
                    flops=float(row["cores"]) * 50 * GB,
                    cores=int(row["cores"]),
                    sockets=int(row["sockets"]),
                ),
                n_layers=layers,
                read_bytes=number["host_read_gb"] * GB,
                held_bytes=host_held,
                flops=number["host_gflop"] * GB,
                kv_bytes=0 if row["gpu"] else number["kv_bytes"],
                latent=latent,
                streamed_bytes=host_held if row["gpu"] else 0,
            )
        )
    return tuple(stages)
