"""What only model and machine settle: the pool, the devices in use, the question."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import UsageError
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.check.configuration import (
    Configuration,
    pool_size,
    question_of_configuration,
    refusal_of,
    settled_companions,
    settled_load_mode,
    used_devices,
    visible_devices,
)
from launcher.plan.companions import Companions, ProjectorRequest
from launcher.plan.modes import LoadMode, SplitMode, TensorOverride
from launcher.units import GIB
from tests.plan.check.checks import SILENT, draft
from tests.plan.memory.companion_files import Silent, projector
from tests.plan.shapes import cards, device

TWO = cards(1000, 2000)
UNIFIED = Configuration(n_parallel=4, kv_unified=True)
APART = Configuration(n_parallel=4, kv_unified=False)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (UNIFIED, 8192),
        (replace(UNIFIED, ctx_size=1000), 1024),
        (APART, 4 * 8192),
        (replace(APART, fit=False), 8192),
        (replace(APART, split_mode=SplitMode.TENSOR), 8192),
        (replace(APART, ctx_size=4096), 4096),
        (replace(APART, ctx_size=4000), 4096),
        (replace(APART, ctx_size=1000), 1024),
        (replace(UNIFIED, ctx_per_slot=2048), 8192),
        (replace(UNIFIED, ctx_per_slot=512), 2048),
        (replace(UNIFIED, ctx_per_slot=512, ctx_size=0), 8192),
    ],
)
def test_the_pool(configuration: Configuration, expected: int) -> None:
    assert pool_size(configuration, 8192) == expected


def test_a_model_without_a_training_context_needs_one() -> None:
    with pytest.raises(UsageError, match="no training context"):
        pool_size(UNIFIED, 0)


def ids(configuration: Configuration, *, shared: bool = False) -> list[str]:
    own = device(0, GIB)
    mixed = (own, device(1, GIB, shares_host_memory=True)) if shared else TWO
    return [each.id for each in used_devices(configuration, mixed)]


def test_which_devices_are_used() -> None:
    assert ids(Configuration()) == ["CUDA0", "CUDA1"]
    assert ids(Configuration(devices=("CUDA1",))) == ["CUDA1"]
    assert ids(Configuration(devices=())) == []
    assert ids(Configuration(split_mode=SplitMode.NONE, main_gpu=1)) == ["CUDA1"]
    assert ids(Configuration(split_mode=SplitMode.NONE, main_gpu=-1)) == []
    assert ids(Configuration(), shared=True) == ["CUDA0"]
    assert ids(Configuration(devices=("CUDA1",)), shared=True) == ["CUDA1"]


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        (Configuration(devices=("CUDA7",)), "CUDA7, and this machine has CUDA0, CUDA1"),
        (Configuration(split_mode=SplitMode.NONE, main_gpu=2), "beyond the 2 devices"),
    ],
)
def test_a_device_that_is_not_there(configuration: Configuration, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ids(configuration)
    with pytest.raises(UsageError, match="CUDA0, and this machine has no device"):
        used_devices(Configuration(devices=("CUDA0",)), ())


def test_visible_devices_are_numbered_anew() -> None:
    named = tuple(replace(each, uuid=f"GPU-{index}{index}") for index, each in enumerate(TWO))
    swapped = visible_devices(named, {"CUDA_VISIBLE_DEVICES": "1,0"})
    assert [(each.id, each.uuid) for each in swapped] == [("CUDA0", "GPU-11"), ("CUDA1", "GPU-00")]
    assert [each.uuid for each in visible_devices(named, {"CUDA_VISIBLE_DEVICES": "GPU-1"})] == ["GPU-11"]
    assert [each.uuid for each in visible_devices(named, {"CUDA_VISIBLE_DEVICES": "0,7,1"})] == ["GPU-00"]
    assert visible_devices(named, {"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert visible_devices(named, {"GGML_VK_VISIBLE_DEVICES": "0"}) == named
    one = cards(100, backend=Backend.VULKAN)
    assert [each.id for each in visible_devices(one, {"GGML_VK_VISIBLE_DEVICES": "0,0"})] == [
        "Vulkan0",
        "Vulkan1",
    ]


def test_virtual_devices_share_their_cards() -> None:
    first, second = TWO
    three = visible_devices(TWO, {"GGML_CUDA_DEVICES": "3"})
    assert [each.id for each in three] == ["CUDA0", "CUDA1", "CUDA2"]
    named = visible_devices((first, replace(second, uuid="GPU-1")), {"GGML_CUDA_DEVICES": "3"})
    assert [each.uuid for each in named] == [None, "GPU-1", None]  # a shared card is nobody's
    assert [each.total_bytes for each in three] == [
        first.total_bytes // 2,
        second.total_bytes,
        first.total_bytes // 2,
    ]
    one_of_two = visible_devices(TWO, {"CUDA_VISIBLE_DEVICES": "1", "GGML_CUDA_DEVICES": "2"})
    assert [each.free_bytes for each in one_of_two] == [(second.free_bytes or 0) // 2] * 2
    assert visible_devices(TWO, {"GGML_CUDA_DEVICES": "1"}) == TWO[:1]
    assert len(visible_devices(TWO, {"GGML_CUDA_DEVICES": "99"})) == 16
    for ignored in ("0", "-2", "all", ""):
        assert visible_devices(TWO, {"GGML_CUDA_DEVICES": ignored}) == TWO


NAMES = ["blk.0.ffn_up_exps.weight", "token_embd.weight"]


def test_overrides_that_find_nothing_still_end_pipelining() -> None:
    idle = TensorOverride(pattern=r"blk\.7\.", where=HOST)
    works = TensorOverride(pattern="exps", where="CUDA1")
    asked = question_of_configuration(Configuration(overrides=(idle, works)), "m", TWO, 4096, NAMES)
    assert asked.overrides == (works,)
    asked = question_of_configuration(Configuration(overrides=(idle,)), "m", TWO, 4096, NAMES)
    assert [rule.pattern for rule in asked.overrides] == ["^$"]
    assert question_of_configuration(Configuration(), "m", TWO, 4096, NAMES).overrides == ()


def test_tensors_are_split_over_all_devices_there_are() -> None:
    tensor = Configuration(split_mode=SplitMode.TENSOR, tensor_split=(1.0, 3.0))
    assert ids(Configuration(), shared=True) == ["CUDA0"]
    assert ids(tensor, shared=True) == ["CUDA0", "CUDA1"]
    asked = question_of_configuration(tensor, "m", TWO, 4096, NAMES)
    assert asked.split_mode is SplitMode.TENSOR
    assert asked.tensor_split == (1.0, 3.0)


def test_rows_are_split_by_sycl_only() -> None:
    row = Configuration(split_mode=SplitMode.ROW)
    assert refusal_of(row, TWO) == "device CUDA0 does not support split buffers (--split-mode row)"
    assert refusal_of(row, (replace(TWO[0], backend=Backend.SYCL),)) is None
    assert refusal_of(row, ()) is None
    assert refusal_of(Configuration(), TWO) is None


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(overrides=(TensorOverride(pattern="x", where="CUDA9"),)),
        Configuration(overrides=(TensorOverride(pattern="(", where=HOST),)),
    ],
)
def test_what_cannot_be_asked(configuration: Configuration) -> None:
    with pytest.raises(UsageError):
        question_of_configuration(configuration, "m", TWO, 4096, NAMES)


def test_auto_maps_unless_a_device_cannot() -> None:
    integrated = (device(0, GIB, shares_host_memory=True),)
    assert settled_load_mode(Configuration(), TWO) is LoadMode.MMAP
    assert settled_load_mode(Configuration(), integrated) is LoadMode.NONE
    assert settled_load_mode(Configuration(load_mode=LoadMode.MMAP), integrated) is LoadMode.MMAP
    metal = (device(0, GIB, shares_host_memory=True, backend=Backend.METAL),)
    assert settled_load_mode(Configuration(), metal) is LoadMode.MMAP


def test_companions_have_one_device_under_split_mode_none() -> None:
    one = Configuration(split_mode=SplitMode.NONE, main_gpu=1)

    def settled(configuration: Configuration, *devices: str, where: str | None = None) -> Companions:
        request = ProjectorRequest(path="p.gguf", where=where)
        companions = replace(draft(SILENT, *devices), projector=projector(Silent(), request).projector)
        return settled_companions(configuration, companions, TWO)

    def places(companions: Companions) -> tuple[tuple[str, ...] | None, str | None]:
        assert companions.draft is not None
        assert companions.projector is not None
        return companions.draft.request.devices, companions.projector.request.where

    assert places(settled(one, "CUDA0", "CUDA1")) == (("CUDA1",), "CUDA0")
    assert places(settled(one, "CUDA0", where="CUDA1")) == (("CUDA0",), "CUDA1")
    assert places(settled(one, where=HOST)) == (None, HOST)
    assert places(settled(replace(one, devices=()))) == (None, HOST)
    assert places(settled(Configuration(), "CUDA0", "CUDA1")) == (("CUDA0", "CUDA1"), None)
