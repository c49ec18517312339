"""What a forecast says and what it cannot: bands, guesses, contexts too small for the turn."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from launcher.machine.gpus import GPU_NAMES, gpu_named, idle_device
from launcher.machine.machine import Backend, Device, Link
from launcher.plan.forecast.decode import Stage, token_seconds
from launcher.plan.forecast.prefill import prompt_seconds
from launcher.plan.forecast.processors import (
    GB,
    Processor,
    ProcessorFamily,
    host_processor,
    link_speed,
    processor_of,
)
from launcher.plan.forecast.turn import GUESS_BAND, Turn, forecast_turn
from launcher.units import GIB
from tests.plan.shapes import eight_cores, machine

CARD = Processor(name="CUDA0", family=ProcessorFamily.CUDA, bandwidth=1000 * GB, flops=100e12, link=25 * GB)
HOST = Processor(name="host", family=ProcessorFamily.HOST, bandwidth=80 * GB, flops=1e12, cores=16)


def stage(processor: Processor, read: float, *, streamed: float = 0.0) -> Stage:
    return Stage(
        processor=processor,
        n_layers=40,
        read_bytes=read,
        held_bytes=read * 10,
        flops=read * 4,
        kv_bytes=50_000,
        streamed_bytes=streamed,
    )


@given(st.floats(1e8, 1e11), st.floats(1.01, 10), st.integers(0, 200_000))
def test_more_bytes_and_more_depth_are_never_faster(read: float, more: float, depth: int) -> None:
    assert token_seconds([stage(CARD, read * more)], depth) > token_seconds([stage(CARD, read)], depth)
    assert token_seconds([stage(CARD, read)], depth + 1000) > token_seconds([stage(CARD, read)], depth)


def test_a_larger_ubatch_sends_host_weights_less_often() -> None:
    stages = [stage(CARD, 1e9, streamed=100e9), stage(HOST, 5e9, streamed=100e9)]
    assert prompt_seconds(stages, 4096, 4096, 0) < prompt_seconds(stages, 4096, 512, 0) / 4


def test_a_band_widens_for_what_is_guessed() -> None:
    known = forecast_turn([stage(CARD, 1e9)], Turn(), 512)
    guess = forecast_turn([stage(replace(CARD, known=False), 1e9)], Turn(), 512)
    assert round(guess.decode.high / guess.decode.mid, 6) == GUESS_BAND
    assert guess.decode.low < known.decode.low
    assert known.turn_seconds.low < known.turn_seconds.mid < known.turn_seconds.high


def test_a_turn_is_made_to_fit_a_small_context() -> None:
    small = Turn().within(4096)
    assert small.cached_tokens + small.prompt_tokens + small.reply_tokens <= 4096
    assert Turn().within(32768) == Turn()


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
