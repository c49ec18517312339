"""Operations that decide what goes on a device: which backends support them.

Each line is a line of supports_op.
"""

from __future__ import annotations

import pytest

from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend, Device
from launcher.simulate.abi.ops import Op
from launcher.simulate.backends.traits import Traits, traits_of
from launcher.units import GIB
from tests.simulate.ops import F16, F32, attention, op, product, tensor

NO_TERNARY = {
    Backend.CUDA: {T.TQ1_0, T.TQ2_0},
    Backend.HIP: {T.TQ1_0, T.TQ2_0},
    Backend.SYCL: {T.TQ1_0, T.TQ2_0},
    Backend.METAL: {T.TQ1_0, T.NVFP4},
    Backend.VULKAN: set(),
}
GPUS = tuple(NO_TERNARY)
NOT_WEIGHTS = {T.I8, T.I16, T.I32, T.I64, T.F64, T.Q8_1, T.Q8_K}
WEIGHTS = tuple(type_ for type_ in T if type_ not in NOT_WEIGHTS)


def traits(backend: Backend, name: str = "") -> Traits:
    return traits_of(Device(id="X0", backend=backend, name=name, total_bytes=24 * GIB, free_bytes=None))


def can(backend: Backend, operation: Op) -> bool:
    return traits(backend).supports(operation)


@pytest.mark.parametrize("backend", GPUS)
@pytest.mark.parametrize("name", ["MUL_MAT", "MUL_MAT_ID"])
def test_weight_types_without_a_kernel(backend: Backend, name: str) -> None:
    missing = {type_ for type_ in WEIGHTS if not can(backend, product(type_, name=name))}

    assert missing == NO_TERNARY[backend]
    assert missing == set(WEIGHTS) - traits(backend).matrix_types


@pytest.mark.parametrize(
    ("k", "v", "ratio", "expected"),
    [
        (128, 128, 8, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}),
        (576, 512, 64, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}),  # latent attention
        (192, 128, 8, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}),
        (192, 128, 4, {Backend.VULKAN, Backend.METAL, Backend.SYCL}),  # CUDA wants groups of 8
        (512, 512, 1, {Backend.VULKAN, Backend.METAL, Backend.SYCL}),
        (60, 60, 8, {Backend.SYCL}),
    ],
)
def test_flash_attention_by_head_size(k: int, v: int, ratio: int, expected: set[Backend]) -> None:
    node = attention(k, v, n_head=8 * ratio, n_head_kv=8)

    assert {
        backend for backend in expected | {Backend.CUDA, Backend.VULKAN} if can(backend, node)
    } == expected


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        (T.Q8_0, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}),
        (T.IQ4_NL, {Backend.VULKAN}),
        (T.Q5_1, {Backend.CUDA, Backend.VULKAN, Backend.METAL}),
        (T.BF16, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}),
    ],
)
def test_flash_attention_by_cache_type(cache: T, expected: set[Backend]) -> None:
    node = attention(128, 128, cache=cache)

    assert {
        b for b in (Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL) if can(b, node)
    } == expected


@pytest.mark.parametrize(
    ("heads", "expected"),
    [(64, {Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL}), (16, {Backend.VULKAN, Backend.SYCL})],
)
def test_the_indexer_of_sparse_attention(heads: int, expected: set[Backend]) -> None:
    node = op(
        "LIGHTNING_INDEXER",
        tensor(F32, 4096, 512),
        tensor(F32, 128, heads, 512),
        tensor(F16, 128, 1, 4096),
        tensor(F32, heads, 512),
        tensor(F16, 4096, 512),
    )

    assert {
        b for b in (Backend.CUDA, Backend.VULKAN, Backend.METAL, Backend.SYCL) if can(b, node)
    } == expected


@pytest.mark.parametrize(("state", "expected"), [(128, True), (64, False)])
@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.VULKAN, Backend.SYCL])
def test_state_spaces(backend: Backend, state: int, expected: bool) -> None:
    node = op(
        "SSM_SCAN",
        tensor(F32, 1024),
        tensor(F32, state, 64, 8, 1),
        tensor(F32, 64, 8, 512, 1),
        tensor(F32, 8, 512, 1),
        tensor(F32, 1, 8),
        tensor(F32, state, 1, 512, 1),
        tensor(F32, state, 1, 512, 1),
        params=(1,),
    )

    assert can(backend, node) is expected
