"""Speeds of cards, hosts and links."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.gpus import GPU_NAMES, gpu_named, idle_device
from launcher.machine.machine import Backend, Cpu, Device, Link
from launcher.plan.forecast.processors import (
    CORE_FLOPS,
    GB,
    host_processor,
    link_speed,
    node_processor,
    processor_of,
)
from launcher.units import GIB
from tests.plan.forecast.measured import measured
from tests.plan.shapes import eight_cores, machine


def test_every_card_that_can_be_named_has_a_speed() -> None:
    devices = [idle_device(gpu_named(name), id="GPU0", ram_bytes=64 * GIB) for name in GPU_NAMES]
    assert [device.name for device in devices if not processor_of(device).known] == []


def test_an_unknown_card_is_a_guess_and_says_so() -> None:
    card = Device(id="CUDA0", backend=Backend.CUDA, name="Brand New 1", total_bytes=48 * GIB, free_bytes=None)
    assert processor_of(card).known is False
    assert "Brand New 1" in processor_of(card).source


def test_a_host_is_known_by_its_cpu() -> None:
    box = machine(cpu=replace(eight_cores(), name="2 x AMD EPYC 9355"))
    host = host_processor(box, 64)
    assert host.bandwidth == 2 * 12 * 6400 * 8e6
    assert (host.sockets, host.known) == (2, True)
    assert host_processor(replace(box, ram_bandwidth=500 * 10**9), 64).bandwidth == 500e9
    assert host_processor(machine(), 8).known is False


def test_a_link_is_its_generation_and_lanes() -> None:
    assert round(link_speed(Link(pcie_generation=4, pcie_width=16)) / GB, 1) == 31.5
    assert link_speed(None) == link_speed(Link(pcie_generation=4, pcie_width=8))


@pytest.mark.parametrize(("gib", "speeds"), [(20, (450, 170)), (21, (900, 280))])
def test_an_unknown_card_is_a_middling_one_of_its_size(gib: int, speeds: tuple[int, int]) -> None:
    card = Device(id="X", backend=Backend.CUDA, name="New 1", total_bytes=gib * GIB, free_bytes=None)
    found = processor_of(card)
    assert (found.bandwidth / GB, found.flops / 1e12) == speeds


def test_a_known_card_has_the_speed_of_its_data_sheet() -> None:
    card = idle_device(gpu_named("3090"), id="CUDA0", ram_bytes=64 * GIB)
    found = processor_of(replace(card, link=Link(pcie_generation=3, pcie_width=16)))
    assert (found.bandwidth, found.flops, found.source) == (936 * GB, 8 * 35.6e12, "data sheet")
    assert round((found.link or 0) / GB, 2) == 15.76
    assert processor_of(replace(card, shares_host_memory=True)).link is None


def cpu(physical: int | None, logical: int, *isa: str) -> Cpu:
    return replace(
        eight_cores(), name="a CPU", physical_cores=physical, logical_cores=logical, isa=isa or ("AVX2",)
    )


@pytest.mark.parametrize(
    ("physical", "logical", "channels_and_speed"),
    [(23, 46, 2 * 4800), (24, 48, 8 * 3200), (None, 24, 8 * 3200), (None, 23, 2 * 4800), (8, 48, 2 * 4800)],
)
def test_an_unknown_host_is_guessed_by_its_cores(
    physical: int | None, logical: int, channels_and_speed: int
) -> None:
    host = host_processor(machine(cpu=cpu(physical, logical)), 8)
    assert host.bandwidth == channels_and_speed * 8e6
    assert not host.known
    assert host.source.startswith("a guess")


def test_arithmetic_is_what_the_laws_were_fitted_with_for_each_thread() -> None:
    """Whatever the instructions: rows of AVX2 alone are as fast for each core as those of AVX-512."""
    (row, *_) = (row for row in measured() if row.rig == "2-core-epyc")
    assert row.stages[-1].processor.flops == 2 * CORE_FLOPS
    for isa in ((), ("AVX2",), ("AVX2", "AVX512")):
        assert host_processor(machine(cpu=cpu(8, 16, *isa)), 6).flops == 6 * CORE_FLOPS
    assert host_processor(machine(), 6).cores == 6


def test_unified_memory_has_the_bandwidth_of_its_gpu() -> None:
    gpu = idle_device(gpu_named("m4-max"), id="MTL0", ram_bytes=64 * GIB)
    host = host_processor(machine(gpu), 8)
    assert (host.bandwidth, host.known) == (546 * GB, True)
    card = idle_device(gpu_named("3090"), id="CUDA0", ram_bytes=64 * GIB)
    assert not host_processor(machine(card), 8).known  # a card's memory says nothing of the host's
    assert not host_processor(machine(replace(card, shares_host_memory=True, name="New 1")), 8).known


def test_one_node_has_its_part_of_the_bandwidth() -> None:
    box = machine(cpu=replace(eight_cores(), name="2 x AMD EPYC 9355"))
    node = node_processor(box, 16, 2)
    assert (node.bandwidth, node.sockets, node.cores) == (12 * 6400 * 8e6, 1, 16)


def test_what_a_link_does_not_say_is_usual() -> None:
    assert link_speed(Link(pcie_generation=5, pcie_width=None)) == 8 * 3.938 * GB
    assert link_speed(Link(pcie_generation=None, pcie_width=16)) == 16 * 1.969 * GB
