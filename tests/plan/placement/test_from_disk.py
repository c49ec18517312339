"""Experts that RAM has no room for, read from the file as they are used: only on request, and only experts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engine.flags.argv import Serving, server_argv
from launcher.machine.machine import Backend, Filesystem, Machine
from launcher.plan.amounts import HOST
from launcher.plan.as_json import plan_json
from launcher.plan.forecast.decode import Paging
from launcher.plan.forecast.turn import GUESSED_DISK_BAND, PAGED_BAND
from launcher.plan.from_json import from_json
from launcher.plan.memory.ledger import host_experts, spread_out
from launcher.plan.modes import Dialect, LoadMode
from launcher.plan.placement.arrange import Arrangement, arrange, read_case
from launcher.plan.placement.settle import settle
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.search.searches import choose, kimi, planned
from tests.plan.shapes import cards, device, machine, model

ASKED = Workload(ctx_size=4096, ubatch_size=512, from_disk=True)
SERVING = Serving(host="127.0.0.1", port=1, model_id="m", model_path="/m.gguf")
RESERVE = 512 * MIB


def arranged(box: Machine, workload: Workload = ASKED, *, name: str = "qwen3moe") -> Arrangement:
    case = read_case(model(name), "Q4_0", box, workload, Limits())
    return arrange(case, settle(case.architecture, workload, 4096), workload)


def kimi_on(box: Machine, *, from_disk: bool) -> Plan:
    asked = Workload(ctx_size=32768, rope=Rope(trained=262144), from_disk=from_disk)
    return planned(choose(kimi(), box, asked))


@given(
    ram_mib=st.integers(0, 700),
    free_mib=st.lists(st.integers(1, 400), max_size=2),
    surplus=st.integers(-20, 20),
)
def test_only_experts_are_left_out_of_ram_and_no_row_is_over_its_budget(
    ram_mib: int, free_mib: list[int], surplus: int
) -> None:
    box = machine(*cards(*free_mib), ram_bytes=RESERVE + ram_mib * MIB)
    case = read_case(model("qwen3moe"), "Q4_0", box, ASKED, Limits())
    settled = settle(case.architecture, ASKED, 4096)
    found = arrange(case, settled, ASKED, {HOST: surplus * MIB})
    plain = arrange(case, settled, replace(ASKED, from_disk=False), {HOST: surplus * MIB})
    paged, most, host = (
        found.placement.paged_bytes,
        host_experts(case.weights, spread_out(found.placement)),
        found.ledger[-1],
    )
    free = host.free_bytes + surplus * MIB
    assert host.file_bytes == paged
    assert (paged == 0) == (plain.ledger[-1].free_bytes + surplus * MIB >= 0 or most == 0)
    assert free == 0 or paged in {0, most}
    if plain.placement.devices == found.placement.devices:
        assert _weights(plain) == _weights(found)


def _weights(arrangement: Arrangement) -> int:
    return sum(row.weights.n_bytes + row.file_bytes for row in arrangement.ledger)


def test_what_is_missing_is_left_to_the_file_to_the_byte() -> None:
    roomy = arranged(machine())
    row = roomy.ledger[-1]
    used = row.used_bytes - row.cache.n_bytes
    short = arranged(machine(ram_bytes=RESERVE + used - 5 * MIB))
    assert short.fits
    assert short.placement.paged_bytes == 5 * MIB
    assert short.ledger[-1].free_bytes == 0
    assert not arranged(machine(ram_bytes=RESERVE + used - 5 * MIB), replace(ASKED, from_disk=False)).fits


def test_what_is_no_expert_needs_ram() -> None:
    """All experts out of RAM leave the dense weights, the cache and the compute buffer."""
    row = arranged(machine()).ledger[-1]
    case = read_case(model("qwen3moe"), "Q4_0", machine(), ASKED, Limits())
    least = row.used_bytes - row.cache.n_bytes - sum(layer.expert_bytes for layer in case.weights.layers)
    assert arranged(machine(ram_bytes=RESERVE + least)).fits
    assert not arranged(machine(ram_bytes=RESERVE + least - 1)).fits


@pytest.mark.parametrize(
    "workload",
    [
        replace(ASKED, from_disk=False),
        replace(ASKED, load_mode=LoadMode.NONE),
        replace(ASKED, load_mode=LoadMode.MLOCK),
        replace(ASKED, dialect=Dialect.IK),
    ],
)
def test_it_is_refused_where_it_was_not_asked_for_or_cannot_be(workload: Workload) -> None:
    assert not arranged(machine(ram_bytes=RESERVE + 250 * MIB), workload).fits


def test_a_dense_model_has_no_experts_to_leave_on_the_disk() -> None:
    roomy = arranged(machine(), name="llama").ledger[-1]
    short = machine(ram_bytes=RESERVE + roomy.used_bytes - roomy.cache.n_bytes - 1)
    assert arranged(short, name="llama").placement.paged_bytes == 0
    assert not arranged(short, name="llama").fits


def test_a_device_in_the_host_s_memory_holds_what_it_computes_with() -> None:
    metal = device(0, GIB // 2, backend=Backend.METAL, shares_host_memory=True)
    found = arranged(machine(metal, ram_bytes=GIB))
    assert not (found.placement.devices and found.placement.paged_bytes)


def test_its_line_maps_the_file_and_repacks_nothing() -> None:
    plan = kimi_on(machine(device(0, 24 * GIB), ram_bytes=128 * GIB), from_disk=True)
    argv = server_argv(plan, SERVING)
    assert plan.placement.paged_bytes > 0
    assert plan.load_mode is LoadMode.MMAP
    assert "-nr" in argv
    assert from_json(plan_json(plan)).placement == plan.placement
    roomy = kimi_on(machine(device(0, 24 * GIB), ram_bytes=1024 * GIB), from_disk=True)
    assert roomy.placement.paged_bytes == 0
    assert "-nr" not in server_argv(roomy, SERVING)


def test_without_the_option_nothing_of_it_is_planned() -> None:
    assert choose(kimi(), machine(device(0, 24 * GIB), ram_bytes=128 * GIB)).plan is None


def test_a_measured_disk_takes_the_guess_s_place() -> None:
    box = machine(device(0, 24 * GIB), ram_bytes=128 * GIB)
    store = Filesystem(path="/d", type="ext4", total_bytes=9000 * GIB, free_bytes=8000 * GIB)
    slow = replace(store, fault_rate=250 * 10**6)
    guessed, measured = (kimi_on(replace(box, store=each), from_disk=True) for each in (store, slow))
    assert guessed.forecast is not None
    assert measured.forecast is not None
    assert measured.forecast.decode.mid == pytest.approx(guessed.forecast.decode.mid / 4, rel=0.1)
    for plan, factor, word in ((guessed, GUESSED_DISK_BAND, "a guess"), (measured, PAGED_BAND, "measured")):
        assert plan.forecast is not None
        assert plan.forecast.decode.high / plan.forecast.decode.mid >= factor
        assert any(text.startswith("disk: ") and word in text for text in plan.forecast.assumptions)


def test_single_tokens_find_what_is_there_and_a_large_batch_finds_nothing() -> None:
    """100 MiB of experts of 128 KiB, each of which is read with as much after it; 40 MiB have no room."""
    paging = Paging(
        n_bytes=100 * MIB, missing_bytes=40 * MIB, piece_bytes=MIB / 8, rate=10 * MIB, measured=True
    )
    assert paging.seconds(0.1) == pytest.approx(2 * 10 * 0.4 / 10)
    assert paging.seconds(0.1, rows=1000) == pytest.approx(2 * 10.0)


def test_the_file_s_tensors_are_all_counted_once() -> None:
    plan = kimi_on(machine(device(0, 24 * GIB), ram_bytes=128 * GIB), from_disk=True)
    counted = sum(row.weights.n_bytes + row.file_bytes for row in plan.ledger)
    sizes = [offer.model.size_bytes for offer in kimi() if offer.quant == plan.quant]
    assert counted == pytest.approx(sizes[0], rel=0.001)
