"""Speeds of cards, hosts and links."""

from __future__ import annotations

from dataclasses import replace

from launcher.machine.gpus import GPU_NAMES, gpu_named, idle_device
from launcher.machine.machine import Backend, Device, Link
from launcher.plan.forecast.processors import (
    GB,
    host_processor,
    link_speed,
    processor_of,
)
from launcher.units import GIB
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
