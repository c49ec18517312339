"""Where layers go: properties over many machines, and a few cases by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Backend, Machine
from launcher.plan.amounts import HOST
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.ledger import Demand, build_ledger, demand_of, host_weights, spread_out
from launcher.plan.memory.weights import OverriddenWeights, weigh
from launcher.plan.placement.placement import place
from launcher.plan.plan import Placement
from launcher.units import GIB, MIB
from tests.plan.round_numbers import WEIGHTS, demand
from tests.plan.round_numbers import placed as by_hand
from tests.plan.shapes import architecture_of, cards, device, machine, model, parameters

MODELS = (model("qwen3moe"), model("deepseek2"), model("llama"), model("gemma3"))
FREE_MIB = st.lists(st.integers(min_value=0, max_value=700), min_size=0, max_size=4)


def placed(file: ModelFile, box: Machine, ctx_size: int = 2048) -> Placement:
    architecture = architecture_of(file)
    demand = demand_of(architecture, weigh(architecture, file.tensors), parameters(ctx_size))
    return place(demand, read_budgets(box))


def on_devices(file: ModelFile, placement: Placement) -> tuple[int, int]:
    """Layers on devices, and how many of the tensors that hold experts."""
    weights = weigh(architecture_of(file), file.tensors)
    host = dict(placement.host_expert_parts)
    host |= {
        block: tuple(kind for kind, _ in weights.layers[block].expert_kinds)
        for block in placement.host_expert_blocks
    }
    every = sum(len(weights.layers[block].expert_kinds) for block in weights.expert_blocks)
    return placement.n_gpu_layers, every - sum(len(kinds) for kinds in host.values())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), FREE_MIB)
def test_no_device_is_over_its_budget_and_sums_are_totals(file: ModelFile, free_mib: list[int]) -> None:
    box = machine(*cards(*free_mib))
    architecture = architecture_of(file)
    weights = weigh(architecture, file.tensors)
    demand = demand_of(architecture, weights, parameters(2048))
    placement = placed(file, box)
    rows = build_ledger(demand, placement, read_budgets(box))
    assert all(row.free_bytes >= 0 for row in rows if row.where != HOST)
    assert sum(row.kv.n_bytes for row in rows) == demand.caches.amount(range(weights.n_block)).n_bytes
    tied_twice = weights.tied_bytes if placement.n_gpu_layers else 0
    every_tensor = sum(tensor.size_bytes for tensor in file.tensors)
    assert every_tensor + tied_twice == sum(row.weights.n_bytes for row in rows)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), FREE_MIB)
def test_the_split_is_what_llama_cpp_wants(file: ModelFile, free_mib: list[int]) -> None:
    placement = placed(file, machine(*cards(*free_mib)))
    assert sum(placement.tensor_split) == placement.n_gpu_layers
    assert len(placement.tensor_split) == len(placement.devices)
    assert all(count > 0 for count in placement.tensor_split)
    assert 0 <= placement.n_gpu_layers <= placement.n_block + 1
    spread = spread_out(placement)
    covered = [*spread.host_layers, *(layer for share in spread.shares for layer in share)]
    assert covered == list(range(placement.n_block + 1))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.lists(st.integers(min_value=0, max_value=500), min_size=1, max_size=3),
    st.integers(min_value=0, max_value=2),
    st.integers(min_value=1, max_value=400),
)
def test_more_memory_is_never_worse(file: ModelFile, free_mib: list[int], which: int, more: int) -> None:
    """More layers on devices, or as many layers and no fewer tensors of experts."""
    roomier = list(free_mib)
    roomier[which % len(roomier)] += more
    before = on_devices(file, placed(file, machine(*cards(*free_mib))))
    after = on_devices(file, placed(file, machine(*cards(*roomier))))
    assert after >= before


def test_a_part_of_one_block_on_the_host_is_enough_to_spare_a_pipelines_copies() -> None:
    placement = placed(model("qwen3moe"), machine(*cards(83, 375)))
    assert placement.n_gpu_layers == 13
    assert placement.host_expert_blocks == ()
    ((block, kinds),) = placement.host_expert_parts
    assert (block, len(kinds)) == (11, 1)


def test_the_fewest_devices_that_hold_everything() -> None:
    placement = placed(model("qwen3moe"), machine(*cards(300, 2000, 300)))
    assert placement.devices == ("CUDA1",)
    assert placement.tensor_split == (13,)
    assert placement.host_expert_blocks == ()


def test_experts_fill_each_device_to_its_own_budget() -> None:
    placement = placed(model("qwen3moe"), machine(*cards(250, 120)))
    weights = weigh(architecture_of(model("qwen3moe")), model("qwen3moe").tensors)
    assert placement.n_gpu_layers == 13
    assert 0 < len(placement.host_expert_blocks) < 12
    on_first = [
        block for block in range(placement.tensor_split[0]) if block not in placement.host_expert_blocks
    ]
    on_second = [
        block for block in range(placement.tensor_split[0], 12) if block not in placement.host_expert_blocks
    ]
    assert len(on_first) > len(on_second)
    spread = spread_out(placement)
    expected = weights.input_bytes + sum(
        weights.layers[block].expert_bytes for block in placement.host_expert_blocks
    )
    expected += sum(
        size
        for block, kinds in placement.host_expert_parts
        for kind, size in weights.layers[block].expert_kinds
        if kind in kinds
    )
    assert expected == host_weights(weights, spread)


def test_a_dense_model_keeps_its_last_layers_on_the_device() -> None:
    file = model("llama", n_block=64)
    placement = placed(file, machine(*cards(60)))
    assert 1 < placement.n_gpu_layers < 65
    assert spread_out(placement).host_layers == range(65 - placement.n_gpu_layers)


def test_without_devices_everything_is_on_the_host() -> None:
    placement = placed(model("qwen3moe"), machine())
    assert (placement.n_gpu_layers, placement.devices, placement.tensor_split) == (0, (), ())
    assert placement.host_expert_blocks == tuple(range(12))


def test_a_small_second_device_does_not_take_more_experts_than_it_holds() -> None:
    """The first of two devices keeps a second copy of a tensor on the host: 3 GiB of this model."""
    file = model("deepseek2", "kimi-k2.5")
    alone = placed(file, machine(*cards(40000)))
    for free_mib, used in (((40000, 0), "CUDA0"), ((40000, 2000), "CUDA0"), ((0, 40000), "CUDA1")):
        placement = placed(file, machine(*cards(*free_mib)))
        assert placement.devices == (used,)
        assert on_devices(file, placement) == on_devices(file, alone)
    both = placed(file, machine(*cards(40000, 20000)))
    assert on_devices(file, both) > on_devices(file, alone)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.lists(st.integers(min_value=0, max_value=700), max_size=3),
    st.integers(min_value=0, max_value=3),
    st.integers(min_value=0, max_value=700),
)
def test_a_further_device_is_never_worse(
    file: ModelFile, free_mib: list[int], where: int, further: int
) -> None:
    more = list(free_mib)
    more.insert(where % (len(more) + 1), further)
    before = on_devices(file, placed(file, machine(*cards(*free_mib))))
    assert on_devices(file, placed(file, machine(*cards(*more)))) >= before


def test_a_device_without_room_for_a_block_is_left_alone() -> None:
    assert placed(model("qwen3moe"), machine(*cards(1))).devices == ()


# By round numbers: 4 blocks of 10 MiB and 30 MiB of experts, an output of 7.
DENSE = replace(
    WEIGHTS,
    layers=tuple(
        replace(layer, expert_bytes=0, largest_expert_bytes=0, expert_kinds=()) for layer in WEIGHTS.layers
    ),
)
TWO = read_budgets(machine(*cards(1000, 1000)))


def held(needs: Demand, placement: Placement) -> tuple[int, ...]:
    return tuple(row.used_bytes for row in build_ledger(needs, placement, TWO)[:-1])


def within(needs: Demand, *n_bytes: int) -> Placement:
    """Place on cards with these budgets."""
    devices = tuple(replace(each, n_bytes=size) for each, size in zip(TWO.devices, n_bytes, strict=False))
    return place(needs, replace(TWO, devices=devices))


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_as_many_of_the_last_layers_as_fit_to_the_byte(count: int) -> None:
    needs = demand(DENSE)
    (n_bytes,) = held(needs, by_hand(count))
    assert within(needs, n_bytes) == by_hand(count)
    less = within(needs, n_bytes - 1)
    assert less.n_gpu_layers == (count - 1 if count > 2 else 0)  # the output layer alone is not worth it


def test_with_experts_the_blocks_before_the_first_layer_keep_theirs_too() -> None:
    needs = demand()
    for count in (2, 3, 4):
        (n_bytes,) = held(needs, by_hand(count, experts=(0, 1, 2, 3)))
        found = within(needs, n_bytes)
        assert (found.n_gpu_layers, found.host_expert_blocks) == (count, (0, 1, 2, 3))


def test_the_largest_is_the_one_with_most_besides_what_its_backend_takes() -> None:
    first, second = cards(5000, 5000)
    box = machine(first, replace(second, id="Vulkan1", backend=Backend.VULKAN))
    both = read_budgets(box)
    # CUDA takes up to 600 MiB, Vulkan up to 256.
    for vulkan_mib, used in ((1150, "CUDA0"), (1190, "Vulkan1")):
        sizes = (1500 * MIB, vulkan_mib * MIB)
        devices = tuple(replace(each, n_bytes=size) for each, size in zip(both.devices, sizes, strict=True))
        assert place(demand(), replace(both, devices=devices)).devices == (used,)


@pytest.mark.parametrize("n_devices", [1, 2])
@pytest.mark.parametrize("carve_out", [0, 50 * MIB])
@pytest.mark.parametrize("fixed", [0, 20 * MIB])
def test_devices_in_the_hosts_memory_share_what_it_does_not_need(
    n_devices: int, carve_out: int, fixed: int
) -> None:
    """It needs its own weights, its server, and a buffer that may be the whole graph's."""
    sent = (OverriddenWeights(where=HOST, n_tensors=1, dense_bytes=fixed),) if fixed else ()
    needs = demand(replace(WEIGHTS, overridden=sent))
    metal = (
        device(index, 8 * GIB, backend=Backend.METAL, shares_host_memory=True) for index in range(n_devices)
    )
    budgets = read_budgets(machine(*(replace(each, carve_out_bytes=carve_out) for each in metal)))
    split = (5,) if n_devices == 1 else (2, 3)
    *rows, host = build_ledger(needs, by_hand(*split, prefix="MTL"), budgets)
    uncertain = build_ledger(needs, by_hand(3, prefix="MTL"), budgets)[-1].compute
    own = host.weights.n_bytes + sum(
        amount.n_bytes + amount.band_bytes for amount in (uncertain, host.overhead)
    )
    enough = own + n_devices * (max(row.used_bytes for row in rows) - carve_out)
    assert place(needs, replace(budgets, host_bytes=enough)).host_expert_blocks == ()
    less = place(needs, replace(budgets, host_bytes=enough - n_devices))
    assert less.host_expert_blocks or less.host_expert_parts or less.n_gpu_layers < 5


def test_a_device_that_overrides_name_may_be_the_only_one() -> None:
    """A second card makes the first keep two copies of the largest tensor on the host."""
    kinds = (("down", GIB), ("up", GIB))
    layers = tuple(
        replace(layer, expert_bytes=2 * GIB, largest_expert_bytes=GIB, expert_kinds=kinds)
        for layer in WEIGHTS.layers[:-1]
    )
    layers = (*layers, WEIGHTS.layers[-1])
    sent = (OverriddenWeights(where="CUDA0", n_tensors=1, dense_bytes=MIB),)
    needs = demand(replace(WEIGHTS, layers=layers, overridden=sent))
    alone = by_hand(5, experts=(0, 1, 2, 3))
    (n_bytes,) = held(needs, alone)
    assert within(needs, n_bytes, 0) == alone
    assert within(needs, n_bytes) == alone


def test_a_device_that_overrides_name_keeps_its_part_of_a_model_that_does_not_fit() -> None:
    sent = (OverriddenWeights(where="CUDA0", n_tensors=1, dense_bytes=MIB),)
    needs = demand(replace(DENSE, overridden=sent))
    (n_bytes,) = held(needs, by_hand(3))
    assert within(needs, n_bytes) == by_hand(3)
    assert within(needs, 0) == by_hand(1)  # a layer all the same, and the ledger shows what is missing
    assert within(needs, 0, n_bytes).devices == ("CUDA0",)
