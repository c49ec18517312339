"""A placement with its whole ledger: what fits to the byte, what a simulation corrects, what companions leave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Backend, Machine
from launcher.plan.amounts import HOST
from launcher.plan.companions import NO_COMPANIONS, Companions, ProjectorRequest
from launcher.plan.modes import CacheType, NumaMode
from launcher.plan.placement.arrange import Arrangement, arrange, read_case
from launcher.plan.placement.left_out import most_freed
from launcher.plan.placement.settle import settle
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.memory.companion_files import Silent, draft, projector
from tests.plan.planned import ledger_row
from tests.plan.search.searches import two_nodes
from tests.plan.shapes import cards, device, machine, model

SMALL = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0)
RESERVE = 512 * MIB
NO_LIMITS = Limits()


def arranged(
    box: Machine,
    surplus: dict[str, int] | None = None,
    *,
    name: str = "qwen3moe",
    ctx_size: int = 4096,
    companions: Companions = NO_COMPANIONS,
    limits: Limits = NO_LIMITS,
) -> Arrangement:
    case = read_case(model(name), "Q4_0", box, SMALL, limits, companions)
    return arrange(case, settle(case.architecture, SMALL, ctx_size), SMALL, surplus)


def ram_used(arrangement: Arrangement) -> int:
    """Return what the host holds besides the caches that take what is left."""
    row = arrangement.ledger[-1]
    return row.used_bytes - row.cache.n_bytes


def with_ram(n_bytes: int, *free_mib: int) -> Machine:
    return machine(*cards(*free_mib), ram_bytes=RESERVE + n_bytes)


def test_a_row_may_be_full_to_the_byte() -> None:
    full = replace(arranged(machine()), ledger=(ledger_row("CUDA0", weights=5), ledger_row(HOST, weights=9)))
    assert full.fits
    over = replace(full.ledger[1], budget_bytes=8)
    assert not replace(full, ledger=(full.ledger[0], over)).fits
    assert replace(full, ledger=(full.ledger[0], over)).least_free({}) == -1
    assert replace(full, ledger=(full.ledger[0], over)).least_free({HOST: 4, "CUDA0": 2}) == 2


def test_a_device_is_left_out_from_the_first_byte_that_is_missing() -> None:
    used = ram_used(arranged(machine(*cards(69))))
    enough = arranged(with_ram(used, 69))
    assert (enough.placement.devices, enough.left_out, enough.ledger[-1].free_bytes) == (("CUDA0",), None, 0)
    short = arranged(with_ram(used - 1, 69))
    assert short.fits
    assert short.placement.devices == ()
    assert short.left_out is not None
    assert (short.left_out.devices, short.left_out.missing_bytes) == (("CUDA0",), 1)


def test_where_more_is_missing_than_leaving_out_can_free_nothing_is_tried() -> None:
    box = machine(*cards(69))
    roomy = arranged(box)
    case = read_case(model("qwen3moe"), "Q4_0", box, SMALL, Limits())
    most = most_freed(roomy.own, case.budgets)
    used = ram_used(roomy)
    assert arranged(with_ram(used - most, 69)).left_out is not None
    assert arranged(with_ram(used - most - 1, 69)).left_out is None


def test_no_more_devices_are_left_out_than_it_takes() -> None:
    one = ram_used(arranged(machine(*cards(150))))
    both = arranged(with_ram(one, 150, 100))
    assert both.placement.devices == ("CUDA0",)
    assert both.ledger[-1].free_bytes == 0
    assert both.left_out is not None
    assert both.left_out.devices == ("CUDA1",)


def test_what_a_simulation_has_shown_is_taken_off_or_added() -> None:
    used = ram_used(arranged(machine(*cards(69))))
    box = with_ram(used, 69)
    assert arranged(box, {HOST: -MIB}).left_out is not None
    assert arranged(with_ram(used - MIB, 69), {HOST: MIB}).left_out is None
    roomy = machine(*cards(230))
    experts = [
        len(arranged(roomy, {"CUDA0": more * MIB} if more else None).placement.host_expert_blocks)
        for more in (-60, 0, 60)
    ]
    assert experts[0] > experts[1] > experts[2]


def test_the_prompt_cache_takes_half_of_what_a_simulation_leaves() -> None:
    used = ram_used(arranged(machine(), ctx_size=32768))
    box = with_ram(used + 200 * MIB)
    caches = [
        arranged(box, {HOST: more * MIB} if more else None, ctx_size=32768).caches.cache_ram_bytes // MIB
        for more in (-40, 0, 40)
    ]
    assert caches == [80, 100, 120]


def test_a_device_in_the_hosts_memory_gets_what_a_simulation_leaves_there() -> None:
    gpu = device(0, 8 * GIB, backend=Backend.METAL, shares_host_memory=True)
    no_margin = Limits(reserve=(("", 0),))  # so that the host's own needs are the limit
    for ram_mib, layers in ((1300, (0, 0, 13)), (1400, (0, 13, 13))):
        found = [
            arranged(machine(gpu, ram_bytes=ram_mib * MIB), surplus, limits=no_margin).placement
            for surplus in ({HOST: -80 * MIB}, None, {HOST: 80 * MIB})
        ]
        assert tuple(each.n_gpu_layers for each in found) == layers
        assert [bool(each.host_expert_blocks) for each in found] == [not count for count in layers]


@pytest.mark.parametrize(("name", "whole"), [("llama", False), ("qwen3moe", True)])
def test_nodes_matter_where_the_host_computes_with_a_block_or_with_experts(name: str, *, whole: bool) -> None:
    """The least that is on the host: one block, or the experts of one."""
    for free_mib in range(40, 400, 2):
        found = arranged(replace(two_nodes(64), devices=cards(free_mib)), name=name)
        placement = found.placement
        on_host = placement.n_block + 1 - placement.n_gpu_layers
        if (on_host == 1 and not whole) or (
            on_host == 0 and placement.host_expert_blocks and not placement.host_expert_parts
        ):
            assert found.cores.numa is NumaMode.DISTRIBUTE
            return
    pytest.fail("no such placement")


def test_nodes_do_not_matter_where_devices_hold_all() -> None:
    assert arranged(replace(two_nodes(64), devices=cards(4000))).cores.numa is None


def test_a_companion_takes_its_devices_carve_out_first() -> None:
    gpu = device(0, 8 * GIB, backend=Backend.VULKAN, shares_host_memory=True)
    beside = projector(Silent({"Vulkan0": 300}))  # 400 MiB with its weights

    def on_host(
        carve_out_mib: int, ram_mib: int, companions: Companions = NO_COMPANIONS, limits: Limits = NO_LIMITS
    ) -> tuple[int, int]:
        own = replace(gpu, carve_out_bytes=carve_out_mib * MIB)
        box = machine(own, ram_bytes=ram_mib * MIB)
        placement = arranged(box, companions=companions, limits=limits).placement
        return placement.n_gpu_layers, len(placement.host_expert_blocks)

    # With the usual margin the device's own budget is the limit, without one what the host does not need.
    for limits, sizes in (
        (NO_LIMITS, range(1600, 2000, 20)),
        (Limits(reserve=(("", 0),)), range(1200, 1600, 20)),
    ):
        alone = {ram_mib: on_host(0, ram_mib, limits=limits) for ram_mib in sizes}
        assert len(set(alone.values())) > 1
        for ram_mib, expected in alone.items():
            # The companion takes 400 MiB: there are as many more of either, or of both together.
            assert on_host(400, ram_mib, beside, limits) == expected
            assert on_host(0, ram_mib + 400, beside, limits) == expected
            assert on_host(100, ram_mib + 300, beside, limits) == expected
            assert on_host(500, ram_mib, beside, limits) == on_host(100, ram_mib, limits=limits)


def test_a_companion_on_the_host_leaves_less_to_a_device_that_shares_its_memory() -> None:
    gpu = device(0, 8 * GIB, backend=Backend.METAL, shares_host_memory=True)
    no_margin = Limits(reserve=(("", 0),))
    beside = projector(Silent({HOST: 300}), ProjectorRequest(path="mm.gguf", where=HOST))

    def layers(ram_mib: int, companions: Companions = NO_COMPANIONS) -> int:
        box = machine(gpu, ram_bytes=ram_mib * MIB)
        return arranged(box, companions=companions, limits=no_margin).placement.n_gpu_layers

    alone = {ram_mib: layers(ram_mib) for ram_mib in range(880, 1600, 40)}
    assert len(set(alone.values())) > 1
    assert {ram_mib: layers(ram_mib + 400, beside) for ram_mib in alone} == alone


def container(ram_mib: int, host_mib: int, *names: str) -> Machine:
    """A container on a host whose GPUs have its memory: AMD's is not counted by the limit, Intel's is."""
    gpus = [
        replace(device(index, 8 * GIB, backend=Backend.VULKAN, shares_host_memory=True), name=name)
        for index, name in enumerate(names)
    ]
    box = machine(*gpus, ram_bytes=ram_mib * MIB)
    return replace(box, ram_limit_bytes=ram_mib * MIB, host_available_bytes=host_mib * MIB)


@pytest.mark.parametrize(("where", "carve_out_mib"), [(HOST, 0), ("Vulkan0", 0), ("Vulkan0", 100)])
def test_a_companion_leaves_less_of_a_containers_host(where: str, carve_out_mib: int) -> None:
    """Wherever it lies, both are memory of the host, but for the carve-out."""
    no_margin = Limits(reserve=(("", 0),))
    beside = projector(Silent({where: 300}), ProjectorRequest(path="mm.gguf", where=where))

    def layers(host_mib: int, carve_out: int = 0, companions: Companions = NO_COMPANIONS) -> int:
        box = container(4096, host_mib, "AMD Radeon 780M")
        (gpu,) = box.devices
        box = replace(box, devices=(replace(gpu, carve_out_bytes=carve_out * MIB),))
        return arranged(box, companions=companions, limits=no_margin).placement.n_gpu_layers

    alone = {host_mib: layers(host_mib) for host_mib in range(800, 1600, 40)}
    assert len(set(alone.values())) > 1
    more = 400 - carve_out_mib
    assert {host_mib: layers(host_mib + more, carve_out_mib, beside) for host_mib in alone} == alone


def test_a_companion_on_a_device_that_a_container_does_not_pay_for_leaves_its_ram_alone() -> None:
    box = container(1750, 64000, "Intel Graphics", "AMD Radeon 780M")
    counted, uncounted = box.devices
    uncounted = replace(uncounted, total_bytes=680 * MIB, free_bytes=680 * MIB)
    found = arranged(
        replace(box, devices=(counted, uncounted)),
        companions=projector(Silent({"Vulkan1": 300}), ProjectorRequest(path="mm.gguf", where="Vulkan1")),
        limits=Limits(reserve=(("", 0),)),
    )
    assert found.fits
    assert found.placement.devices == ("Vulkan0",)
    assert found.placement.n_gpu_layers == found.placement.n_block + 1


def test_what_a_simulation_leaves_of_a_containers_host_goes_to_its_gpu() -> None:
    layers = [
        arranged(
            container(4096, host_mib, "AMD Radeon 780M"), surplus, limits=Limits(reserve=(("", 0),))
        ).placement.n_gpu_layers
        for host_mib in range(800, 1600, 40)
        for surplus in ({HOST: -80 * MIB}, None, {HOST: 80 * MIB})
    ]
    less, plain, more = layers[::3], layers[1::3], layers[2::3]
    assert less[2:] == plain[:-2]
    assert more[:-2] == plain[2:]
    assert len(set(plain)) > 1


def test_a_draft_model_is_counted_before_a_simulation() -> None:
    alone, beside = arranged(machine(*cards(900))), arranged(machine(*cards(900)), companions=draft())
    assert beside.companions.used_bytes["CUDA0"] > 0
    assert beside.ledger[0].used_bytes >= alone.ledger[0].used_bytes + beside.companions.used_bytes["CUDA0"]
