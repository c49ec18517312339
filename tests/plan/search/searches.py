"""Searches among a few quants, on made machines."""

from __future__ import annotations

from dataclasses import replace

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Cpu, Machine, MemoryPool
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB
from tests.plan.shapes import device, machine, model

KIMI = [
    ("INT4", GgmlType.Q4_0),
    ("Q2", GgmlType.Q2_K),
    ("IQ1", GgmlType.IQ1_S),
]


def kimi() -> list[Offer]:
    return [Offer(quant=name, model=model("deepseek2", "kimi-k2.5", expert=kind)) for name, kind in KIMI]


def small() -> list[Offer]:
    kinds = (("Q8_0", GgmlType.Q8_0), ("Q5_0", GgmlType.Q5_0), ("Q4_0", GgmlType.Q4_0))
    return [Offer(quant=name, model=model("qwen3moe", expert=kind)) for name, kind in kinds]


def choose(
    offers: list[Offer], box: Machine, workload: Workload | None = None, limits: Limits | None = None
) -> Choice:
    return search(
        offers,
        Task(
            machine=box,
            workload=workload or Workload(ctx_size=32768, rope=Rope(trained=262144)),
            limits=limits or Limits(),
        ),
    )


def planned(choice: Choice) -> Plan:
    assert choice.plan is not None, choice.shortfall
    return choice.plan


EPYC = machine(device(0, 31 * GIB), ram_bytes=768 * GIB)


def two_nodes(cores: int, *, affinity: int | None = None) -> Machine:
    """Two sockets with half of the cores each, 380 GiB free on either."""
    half = cores // 2
    cpu = Cpu(
        name="2 x AMD EPYC 9355",
        physical_cores=cores,
        performance_cores=None,
        logical_cores=cores,
        affinity=affinity or cores,
        quota=None,
        isa=("AVX512",),
    )
    nodes = tuple(
        MemoryPool(
            node=index,
            total_bytes=384 * GIB,
            free_bytes=(380 + index) * GIB,
            cpus=tuple(range(index * half, (index + 1) * half)),
        )
        for index in range(2)
    )
    return replace(machine(device(0, 31 * GIB), ram_bytes=768 * GIB), nodes=nodes, cpu=cpu)
