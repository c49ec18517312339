"""Devices that take more of a short RAM than they relieve."""

from __future__ import annotations

from dataclasses import replace

from launcher.machine.machine import Backend, Machine
from launcher.plan.amounts import HOST, Amount, Basis
from launcher.plan.memory.budget import read_budgets
from launcher.plan.modes import CacheType, TensorOverride
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange, read_case
from launcher.plan.placement.left_out import most_freed, smaller_budgets
from launcher.plan.placement.settle import settle
from launcher.plan.reasons import describe_placement
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.planned import ledger_row
from tests.plan.shapes import cards, device, machine, model

SMALL = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0)


def arranged(
    box: Machine, surplus: dict[str, int] | None = None, workload: Workload = SMALL
) -> tuple[PlanningCase, Arrangement]:
    case = read_case(model("qwen3moe"), "Q4_0", box, workload, Limits())
    return case, arrange(case, settle(case.architecture, workload, 4096), workload, surplus)


def devices_tried(box: Machine, *needed: str) -> list[tuple[str, ...]]:
    return [
        tuple(budget.device.id for budget in budgets.devices)
        for budgets in smaller_budgets(read_budgets(box), frozenset(needed))
    ]


def test_the_least_device_goes_first_and_the_order_stays() -> None:
    box = machine(*cards(300, 100, 200))
    assert devices_tried(box) == [("CUDA0", "CUDA2"), ("CUDA0",), ()]
    assert devices_tried(box, "CUDA1") == [("CUDA0", "CUDA1"), ("CUDA1",)]
    assert devices_tried(machine(*cards(5, 5, 5))) == [("CUDA0", "CUDA1"), ("CUDA0",), ()]
    assert devices_tried(machine()) == []


def test_a_device_in_the_hosts_memory_is_the_least() -> None:
    shared = device(1, 64 * GIB, backend=Backend.VULKAN, shares_host_memory=True)
    assert devices_tried(machine(device(0, 2 * GIB), shared)) == [("CUDA0",), ()]


def test_a_device_that_takes_more_ram_than_there_is_is_left_out() -> None:
    case, arrangement = arranged(machine(*cards(69), ram_bytes=1183 * MIB))
    assert arrangement.fits
    assert arrangement.placement.devices == ()
    assert arrangement.left_out is not None
    assert arrangement.left_out.devices == ("CUDA0",)
    where, why, *_ = describe_placement(
        arrangement.demand, arrangement.placement, case.budgets, arrangement.left_out
    )
    assert where == "everything on the host"
    assert why.startswith("CUDA0 is left out: with it ")
    assert why.endswith(" of RAM would be missing: its context takes up to 256.0 MiB of it")


def test_the_larger_of_unequal_devices_stays() -> None:
    for free_mib, kept, gone in (((100, 150), "CUDA1", "CUDA0"), ((150, 100), "CUDA0", "CUDA1")):
        _, alone = arranged(machine(*cards(150), ram_bytes=1340 * MIB))
        _, arrangement = arranged(machine(*cards(*free_mib), ram_bytes=1340 * MIB))
        assert alone.fits
        assert arrangement.fits
        assert arrangement.placement.devices == (kept,)
        assert arrangement.placement.tensor_split == alone.placement.tensor_split
        assert arrangement.left_out is not None
        assert arrangement.left_out.devices == (gone,)


def test_no_device_is_left_out_where_ram_is_enough() -> None:
    _, arrangement = arranged(machine(*cards(69), ram_bytes=8 * GIB))
    assert arrangement.placement.devices == ("CUDA0",)
    assert arrangement.left_out is None


def test_a_model_that_is_too_large_is_short_of_the_ram_that_it_is_with_all_devices() -> None:
    case, arrangement = arranged(machine(*cards(69), ram_bytes=700 * MIB))
    assert arrangement.placement.devices == ("CUDA0",)
    assert -arrangement.ledger[-1].free_bytes > most_freed(arrangement.own, case.budgets)


def test_a_device_that_a_simulation_found_memory_for_is_used_again() -> None:
    box = machine(*cards(69), ram_bytes=1183 * MIB)
    _, arrangement = arranged(box, {HOST: 256 * MIB})
    assert arrangement.placement.devices == ("CUDA0",)
    assert arrangement.left_out is None


def test_a_device_that_an_override_names_is_not_left_out() -> None:
    override = TensorOverride(pattern=r"blk\.11\.ffn_up_exps", where="CUDA0")
    workload = Workload(
        ctx_size=4096,
        ubatch_size=512,
        cache_type_k=CacheType.Q8_0,
        cache_type_v=CacheType.Q8_0,
        overrides=(override,),
    )
    _, arrangement = arranged(machine(*cards(69), ram_bytes=1183 * MIB), workload=workload)
    assert arrangement.placement.devices == ("CUDA0",)


def test_a_device_that_holds_no_more_of_the_model_is_named() -> None:
    file = model("deepseek2", "kimi-k2.5")
    case = read_case(file, "Q4_0", machine(*cards(40000, 2000), ram_bytes=768 * GIB), SMALL, Limits())
    arrangement = arrange(case, settle(case.architecture, SMALL, 4096), SMALL)
    reasons = describe_placement(arrangement.demand, arrangement.placement, case.budgets)
    assert "CUDA1 is left out: no less of the model is on devices without it" in reasons


def test_what_a_device_takes_for_itself_is_no_relief() -> None:
    """CUDA takes up to 600 MiB and 256 of RAM, Vulkan 256 and nothing of RAM, of budgets of 600 and 768 of 1024."""
    first, second = cards(0, 0)
    vulkan = device(2, 1024 * MIB, backend=Backend.VULKAN)
    assert devices_tried(machine(first, vulkan)) == [("Vulkan2",), ()]
    for more_mib, kept in ((255, "Vulkan2"), (257, "CUDA0")):
        larger = replace(first, free_bytes=(1024 + more_mib) * MIB)
        assert devices_tried(machine(larger, vulkan))[0] == (kept,)
    assert devices_tried(machine(replace(first, free_bytes=1025 * MIB), second))[0] == ("CUDA0",)


def test_the_ram_that_leaving_out_can_free() -> None:
    """Contexts of those in use, the host's own buffer, and all but the weights of those in the host's memory."""
    row = ledger_row("CUDA0", weights=1000 * MIB, compute=10 * MIB)
    host = ledger_row(HOST, weights=500 * MIB, compute=7 * MIB)
    first, second = cards(100, 100)
    budgets = read_budgets(machine(first, second))
    assert most_freed((row, host), budgets) == (7 + 256) * MIB
    assert most_freed((host,), budgets) == 7 * MIB
    metal = device(0, GIB, backend=Backend.METAL, shares_host_memory=True)
    taken = Amount(n_bytes=20 * MIB, basis=Basis.ESTIMATED, band_bytes=5 * MIB)
    shared = replace(row, where="MTL0", overhead=taken)
    assert most_freed((shared, host), read_budgets(machine(metal))) == (7 + 25 + 10) * MIB
