"""The sentences that explain a plan, from placements and budgets made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis
from launcher.plan.memory.budget import Budgets, read_budgets
from launcher.plan.memory.companion_memory import CompanionMemory, CompanionRow
from launcher.plan.memory.ledger import Demand, demand_of
from launcher.plan.memory.weights import OverriddenWeights, weigh
from launcher.plan.modes import TensorOverride
from launcher.plan.oracle import HostTensor
from launcher.plan.plan import LeftOut, Placement
from launcher.plan.reasons import (
    describe_budgets,
    describe_companions,
    describe_host_tensors,
    describe_missing,
    describe_placement,
    format_ranges,
)
from launcher.plan.workload import Limits
from launcher.units import GIB, MIB
from tests.plan.planned import ledger_row
from tests.plan.shapes import architecture_of, cards, device, machine, model, parameters

TWO = cards(1000, 1000)
THREE = cards(1000, 1000, 1000)


def demand(name: str = "qwen3moe") -> Demand:
    """qwen3moe's mini has 12 blocks, all of them with experts."""
    architecture = architecture_of(model(name))
    return demand_of(architecture, weigh(architecture, model(name).tensors), parameters())


def placed(
    *devices: str,
    split: tuple[int, ...] = (),
    experts: tuple[int, ...] = (),
    parts: tuple[tuple[int, tuple[str, ...]], ...] = (),
    overrides: tuple[TensorOverride, ...] = (),
) -> Placement:
    split = split or (13,) * len(devices)
    return Placement(
        n_block=12,
        n_gpu_layers=sum(split),
        devices=devices,
        tensor_split=split,
        host_expert_blocks=experts,
        host_expert_parts=parts,
        overrides=overrides,
    )


def said(
    placement: Placement, devices: tuple[Device, ...] = TWO, left_out: LeftOut | None = None
) -> list[str]:
    return list(describe_placement(demand(), placement, budgets(*devices), left_out))


def budgets(*devices: Device) -> Budgets:
    return read_budgets(machine(*devices))


def test_why_everything_is_on_the_host() -> None:
    assert said(placed(), ()) == ["everything on the host: there is no GPU to use"]
    no_room = "everything on the host: no GPU has room for a block and its compute buffer"
    assert said(placed()) == [no_room]


def test_everything_on_devices() -> None:
    assert said(placed("CUDA0"), TWO[:1]) == ["all 12 blocks and the output layer on CUDA0"]
    assert said(placed("CUDA0", "CUDA1", split=(7, 6))) == [
        "all 12 blocks and the output layer on CUDA0 and CUDA1",
        "layers by bytes, each device to its own budget: 7 on CUDA0, 6 on CUDA1",
    ]


@pytest.mark.parametrize(
    ("used", "sentence"),
    [
        (("CUDA0",), "CUDA1, CUDA2 are not needed: the other holds everything"),
        (("CUDA0", "CUDA2"), "CUDA1 is not needed: the others hold everything"),
    ],
)
def test_devices_that_are_not_needed(used: tuple[str, ...], sentence: str) -> None:
    reasons = said(placed(*used, split=(13,) if len(used) == 1 else (7, 6)), THREE)
    assert reasons[-1].startswith(sentence)
    assert not any("left out" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("used", "idle"),
    [
        (("CUDA0",), "CUDA1, CUDA2 are left out: no less of the model is on devices without them"),
        (("CUDA0", "CUDA2"), "CUDA1 is left out: no less of the model is on devices without it"),
    ],
)
@pytest.mark.parametrize("on_host", ["layers", "experts", "parts"])
def test_devices_that_would_not_help(used: tuple[str, ...], idle: str, on_host: str) -> None:
    split = {1: (12,), 2: (6, 6)}[len(used)]
    placement = placed(*used, split=split)
    if on_host != "layers":
        placement = replace(placement, n_gpu_layers=13, tensor_split=(split[0] + 1, *split[1:]))
        rest = {"experts": {"host_expert_blocks": (0,)}, "parts": {"host_expert_parts": ((0, ("up",)),)}}
        placement = replace(placement, **rest[on_host])
    reasons = said(placement, THREE)
    assert idle in reasons
    assert not any("not needed" in reason for reason in reasons)
    # The user's own rules, or a GPU in the host's memory: not worth a word.
    rule = TensorOverride(pattern="x", where=HOST)
    assert idle not in said(replace(placement, overrides=(rule,)), THREE)
    shared = tuple(replace(each, shares_host_memory=each.id not in used) for each in THREE)
    assert idle not in said(placement, shared)


def test_blocks_on_the_host() -> None:
    sentence = "the first {} of 12 blocks on the host, the others on devices: more do not fit"
    assert said(placed("CUDA0", split=(4,)), TWO[:1]) == [sentence.format(9)]
    assert said(placed("CUDA0", split=(12,)), TWO[:1]) == [sentence.format(1)]


def test_experts_on_the_host() -> None:
    dense = "dense weights and caches on devices, and the experts of {} of 12 blocks; {} on the host"
    each = demand().weights.layers[0].expert_bytes
    size = f"{2 * each / MIB:.1f} MiB"
    assert said(placed("CUDA0", experts=(0, 1)), TWO[:1]) == [
        dense.format(10, f"those of blocks 0-1 ({size})")
    ]
    part = (2, ("up", "down"))
    assert said(placed("CUDA0", parts=(part,)), TWO[:1]) == [
        dense.format(11, "the up and down experts of block 2")
    ]
    assert said(placed("CUDA0", experts=(0, 1), parts=(part,)), TWO[:1]) == [
        dense.format(9, f"those of blocks 0-1 ({size}), the up and down experts of block 2")
    ]


def test_devices_left_out_for_want_of_ram() -> None:
    one = LeftOut(devices=("CUDA1",), missing_bytes=GIB)
    reasons = said(placed("CUDA0"), TWO, one)
    assert reasons[1:] == [
        "CUDA1 is left out: with it 1.0 GiB of RAM would be missing: its context takes up to 256.0 MiB of it"
    ]
    both = replace(one, devices=("CUDA0", "CUDA1"))
    assert said(placed(), TWO, both) == [
        "everything on the host",
        (
            "CUDA0, CUDA1 are left out: with them 1.0 GiB of RAM would be missing: "
            "their contexts take up to 512.0 MiB of it"
        ),
    ]
    # Vulkan's contexts are not counted.
    vulkan = cards(1000, 1000, backend=Backend.VULKAN)
    assert said(placed("Vulkan0"), vulkan, replace(one, devices=("Vulkan1",)))[1:] == [
        "Vulkan1 is left out: with it 1.0 GiB of RAM would be missing"
    ]
    # A third card that is not used either gets no second sentence.
    partial = said(placed("CUDA0", split=(4,)), THREE, one)
    assert [reason.split(":")[0] for reason in partial[1:]] == ["CUDA1 is left out"]


def test_weights_that_no_device_can_multiply() -> None:
    plain = demand()
    layer = replace(plain.weights.layers[0], stuck_bytes=GIB)
    stuck = replace(plain, weights=replace(plain.weights, layers=(layer, *plain.weights.layers[1:])))
    sentence = "1.0 GiB of weights are of a type no device here can multiply: they stay on the host"
    assert describe_placement(stuck, placed("CUDA0"), budgets(*TWO[:1]))[-1] == sentence
    assert sentence not in describe_placement(stuck, placed(), budgets(*TWO))


def test_tensors_where_the_user_wants_them() -> None:
    plain = demand()
    sent = (
        OverriddenWeights(where=HOST, n_tensors=1, dense_bytes=MIB),
        OverriddenWeights(where="CUDA1", n_tensors=2, expert_bytes=2 * MIB, dense_bytes=MIB),
    )
    overridden = replace(plain, weights=replace(plain.weights, overridden=sent))
    assert describe_placement(overridden, placed("CUDA0", "CUDA1", split=(7, 6)), budgets(*TWO))[-2:] == (
        "-ot: 1 tensor (1.0 MiB) on the host as asked",
        "-ot: 2 tensors (3.0 MiB) on CUDA1 as asked",
    )


def test_budgets_say_what_is_kept() -> None:
    box = machine(*TWO, device(2, 2 * GIB, display=True), replace(TWO[0], id="CUDA3", free_bytes=None))
    plain = describe_budgets(box, read_budgets(box))
    assert plain == (
        "RAM budget 60.0 GiB: 64.0 GiB available, 4.0 GiB left to others",
        "CUDA0, CUDA1 budget 1.6 GiB: 2.0 GiB free, 424.0 MiB kept",
        "CUDA2 budget 1.1 GiB: 2.0 GiB free, 936.0 MiB kept, more because it drives a screen",
        "CUDA3 budget 1.1 GiB: an idle card, 424.0 MiB kept",
    )
    limited = read_budgets(box, Limits(max_ram_bytes=GIB, gpus=()))
    assert describe_budgets(box, limited) == (
        "RAM budget 1.0 GiB: 64.0 GiB available, 4.0 GiB left to others, no more than the 1.0 GiB of --max-ram",
    )


def test_what_is_missing() -> None:
    row = replace(ledger_row("CUDA0", weights=3 * GIB), name="a card", budget_bytes=GIB)
    needs = "needs 3.0 GiB and its budget is 1.0 GiB, 2.0 GiB short"
    assert describe_missing("Q4_0", row) == f"Q4_0 does not fit: CUDA0 (a card) {needs}"
    assert describe_missing("Q4_0", replace(row, where=HOST)) == f"Q4_0 does not fit: RAM {needs}"
    shared = replace(row, shared_bytes=GIB)  # a device's share is told with the host's row
    assert describe_missing("Q4_0", shared) == f"Q4_0 does not fit: CUDA0 (a card) {needs}"
    assert describe_missing("Q4_0", replace(shared, where=HOST)) == (
        "Q4_0 does not fit: RAM needs 4.0 GiB, 1.0 GiB of it for the GPU in the same memory, "
        "and its budget is 2.0 GiB, 2.0 GiB short"
    )


@pytest.mark.parametrize(
    ("name", "available", "sentence"),
    [
        ("Intel Graphics", 30 * GIB, "has memory that the container's limit counts"),
        (
            "AMD Radeon 780M",
            30 * GIB,
            "has the host's memory, which this container's limit does not count: the host has 30.0 GiB available",
        ),
        (
            "NVIDIA GB10",
            10 * GIB,
            (
                "has memory of which it is not known if the container's limit counts it: planned as if it did; "
                "if it does not, up to 10.0 GiB"
            ),
        ),
        (
            "NVIDIA GB10",
            30 * GIB,
            (
                "has memory of which it is not known if the container's limit counts it: planned as if it did; "
                "if it does not, up to 20.0 GiB"
            ),
        ),
    ],
)
def test_whose_memory_a_gpu_of_a_container_takes(name: str, available: int, sentence: str) -> None:
    shared = replace(device(0, 20 * GIB, shares_host_memory=True), name=name)
    box = machine(shared, device(1, GIB), ram_bytes=64 * GIB)
    assert not any(sentence in text for text in describe_budgets(box, read_budgets(box, Limits())))
    contained = replace(box, ram_limit_bytes=8 * GIB, host_available_bytes=available)
    assert describe_budgets(contained, read_budgets(contained, Limits()))[-1] == f"CUDA0 {sentence}"


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("AMD Radeon 780M", ": how much the host has available does not show here"),
        ("NVIDIA GB10", "; if it does not, up to 20.0 GiB"),
    ],
)
def test_a_container_that_does_not_show_its_host(name: str, ending: str) -> None:
    """In an LXC, the limit is all the memory that shows."""
    box = machine(replace(device(0, 20 * GIB, shares_host_memory=True), name=name), ram_bytes=8 * GIB)
    assert describe_budgets(box, read_budgets(box, Limits()))[-1].endswith(ending)


def test_companions_leave_less_to_the_model() -> None:
    assert describe_companions(CompanionMemory()) == ()
    guess = Amount(n_bytes=GIB, basis=Basis.ESTIMATED, band_bytes=GIB)
    rows = (
        CompanionRow(where="CUDA0", weights=guess),
        CompanionRow(where=HOST, kv=replace(guess, band_bytes=0)),
    )
    assert describe_companions(CompanionMemory(rows=rows, reasons=("a draft",))) == (
        "a draft",
        "the model is placed in what is left after 2.0 GiB of CUDA0, 1.0 GiB of host",
    )
    assert CompanionRow(where=HOST, kv=NOTHING).used_bytes == 0


@pytest.mark.parametrize(("n_tensors", "names"), [(1, "t0"), (3, "t0, t1, t2"), (4, "t0, t1, t2 and 1 more")])
def test_at_most_three_tensors_are_named(n_tensors: int, names: str) -> None:
    tensors = tuple(HostTensor(name=f"t{index}", reason="no kernel") for index in range(n_tensors))
    other = HostTensor(name="x", reason="another")
    assert describe_host_tensors((*tensors, other)) == (
        f"{names} on the host: no kernel",
        "x on the host: another",
    )


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([4], "4"), ([3, 1, 2, 7], "1-3, 7"), ([1, 3, 4, 6], "1, 3-4, 6")]
)
def test_numbers_are_written_as_ranges(numbers: list[int], text: str) -> None:
    assert format_ranges(numbers) == text
