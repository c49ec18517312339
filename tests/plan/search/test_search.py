"""The search as a whole: limits that hold, ledgers that add up, sentences that explain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.machine.machine import Filesystem
from launcher.plan.amounts import DISK, HOST, Amount, Basis
from launcher.plan.memory.ledger import spread_out
from launcher.plan.search.task import Offer
from launcher.plan.workload import Adapter, Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.search.searches import choose, planned, small
from tests.plan.shapes import cards, machine, model


def test_slots_share_one_pool_and_the_guarantee_is_said() -> None:
    plan = planned(choose(small(), machine(), Workload(ctx_size=8192, n_parallel=4)))
    assert any("4 requests of 2048 tokens guaranteed" in reason for reason in plan.reasons)


def test_a_download_that_the_disk_cannot_hold_is_refused() -> None:
    offer = replace(small()[1], fetch_bytes=10 * GIB)
    disk = Filesystem(path="/data", type="ext4", total_bytes=100 * GIB, free_bytes=GIB)
    choice = choose([offer], replace(machine(), store=disk))
    assert choice.shortfall is not None
    assert (choice.shortfall.where, choice.shortfall.missing_bytes) == (DISK, 9 * GIB)
    for n_bytes in (0, GIB):  # to the last byte
        assert planned(choose([replace(offer, fetch_bytes=n_bytes)], replace(machine(), store=disk)))


def test_where_nothing_fits_the_one_that_lacks_least_is_told_and_the_others_listed() -> None:
    choice = choose(small(), machine(ram_bytes=600 * MIB), Workload(ctx_size=4096))
    assert choice.shortfall is not None
    assert choice.shortfall.quant == "Q4_0"
    assert [(other.quant, other.fits) for other in choice.rejected] == [("Q8_0", False), ("Q5_0", False)]


def test_what_lacks_only_disk_space_comes_before_what_lacks_less_memory() -> None:
    disk = Filesystem(path="/data", type="ext4", total_bytes=100 * GIB, free_bytes=GIB)
    offers = [small()[0], Offer(quant="Q2_K", model=model("qwen3moe", n_block=2), fetch_bytes=10 * GIB)]
    box = replace(machine(ram_bytes=1000 * MIB), store=disk)
    choice = choose(offers, box, Workload(ctx_size=4096))
    assert choice.shortfall is not None
    assert (choice.shortfall.quant, choice.shortfall.where) == ("Q2_K", DISK)
    (other,) = choice.rejected
    assert (other.quant, other.where) == ("Q8_0", HOST)
    assert (other.missing_bytes or 0) < choice.shortfall.missing_bytes


def test_limits_hold() -> None:
    box = machine(*cards(900, 900), ram_bytes=8 * GIB)
    only = planned(choose(small(), box, limits=Limits(gpus=("CUDA1",))))
    assert only.placement.devices == ("CUDA1",)
    assert planned(choose(small(), box, limits=Limits(gpus=("1",)))).placement.devices == ("CUDA1",)
    reserved = planned(choose(small(), box, limits=Limits(reserve=(("", 1500 * MIB),))))
    assert all(row.budget_bytes + 900 * MIB <= 1924 * MIB for row in reserved.ledger if row.where != HOST)
    short = choose(small(), machine(ram_bytes=8 * GIB), limits=Limits(max_ram_bytes=64 * MIB))
    assert short.plan is None
    for limits in (Limits(gpus=("CUDA9",)), Limits(reserve=(("CUDA9", GIB),))):
        with pytest.raises(UsageError, match="there are CUDA0, CUDA1"):
            choose(small(), box, limits=limits)


def test_a_projector_takes_its_place_on_the_first_device() -> None:
    box = machine(*cards(400, 400))
    extra = Adapter(name="projector", amount=Amount(n_bytes=200 * MIB, basis=Basis.EXACT))
    plain = planned(choose(small()[:1], box, Workload(ctx_size=4096, ubatch_size=512)))
    with_it = planned(choose(small()[:1], box, Workload(ctx_size=4096, ubatch_size=512, adapters=(extra,))))
    assert with_it.ledger[0].adapters.n_bytes == 200 * MIB
    assert sum(row.adapters.n_bytes for row in with_it.ledger) == 200 * MIB
    assert len(with_it.placement.host_expert_blocks) > len(plain.placement.host_expert_blocks)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=3), st.integers(700, 3000), st.integers(1, 4))
def test_no_device_over_budget_and_sums_equal_totals(free: list[int], ram: int, slots: int) -> None:
    choice = choose(
        small(), machine(*cards(*free), ram_bytes=ram * MIB), Workload(ctx_size=4096, n_parallel=slots)
    )
    if choice.plan is None:
        assert choice.shortfall is not None
        return
    plan = choice.plan
    file = next(offer.model for offer in small() if offer.quant == plan.quant)
    assert all(row.free_bytes >= 0 for row in plan.ledger)
    held = sum(row.weights.n_bytes for row in plan.ledger)
    assert held == sum(tensor.size_bytes for tensor in file.tensors)
    assert sum(plan.placement.tensor_split) == plan.placement.n_gpu_layers
    assert sum(len(share) for share in spread_out(plan.placement).shares) == plan.placement.n_gpu_layers


def test_a_card_that_is_not_needed_is_explained() -> None:
    plan = planned(choose(small()[:1], machine(*cards(8192, 8192)), Workload(ctx_size=4096)))
    assert any("CUDA1 is not needed" in reason for reason in plan.reasons)


def test_a_plan_says_its_speed_and_of_how_many_quants_it_is() -> None:
    alone = planned(choose(small()[:1], machine(), Workload(ctx_size=4096)))
    assert any(reason.startswith("predicted ") for reason in alone.reasons)
    assert not any("quants that fit" in reason for reason in alone.reasons)
    three = planned(choose(small(), machine(), Workload(ctx_size=4096)))
    assert any(reason.startswith(f"{three.quant} of 3 quants that fit: ") for reason in three.reasons)
