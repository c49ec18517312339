"""Traits of a device: its driver's limits, and the staging buffers of its backend."""

from __future__ import annotations

import pytest

from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend, Device, Peer
from launcher.simulate.backends.traits import Optimizer, Staging, Traits, traits_of
from launcher.units import GIB, MIB
from tests.simulate.ops import F32, op, tensor


def traits(backend: Backend, name: str = "") -> Traits:
    return traits_of(Device(id="X0", backend=backend, name=name, total_bytes=24 * GIB, free_bytes=None))


def test_a_tensor_beyond_the_drivers_range_stays_on_the_host() -> None:
    embedding = op("GET_ROWS", tensor(F32, 640, 512), tensor(T.Q8_0, 640, 262144), tensor(T.I32, 512))

    assert traits(Backend.VULKAN, "NVIDIA RTX 4090").supports(embedding)
    assert not traits(Backend.VULKAN, "llvmpipe (LLVM 15.0.6)").supports(embedding)


@pytest.mark.parametrize(
    ("backend", "n_devices", "expected"),
    [
        (Backend.CUDA, 2, Staging(device_bytes=32 * MIB, host_bytes=68 * MIB)),
        (Backend.HIP, 3, Staging(device_bytes=5 * MIB)),
        (Backend.SYCL, 2, Staging(device_bytes=10 * MIB, host_bytes=40 * MIB)),
        (Backend.SYCL, 3, Staging()),
        (Backend.VULKAN, 2, Staging()),
        (Backend.METAL, 2, Staging()),
    ],
)
def test_staging(backend: Backend, n_devices: int, expected: Staging) -> None:
    assert traits(backend).staging(n_devices, 10 * MIB) == expected


def on_a_peer(backend: Backend) -> Traits:
    peer = Peer(endpoint="10.0.0.2:50052")
    return traits_of(
        Device(id="RPC0", backend=backend, name="", total_bytes=24 * GIB, free_bytes=None, peer=peer)
    )


@pytest.mark.parametrize("backend", list(Backend))
def test_a_head_sees_every_peer_alike_but_for_its_memory(backend: Backend) -> None:
    seen = on_a_peer(backend)

    assert seen.registry == "RPC"
    assert seen.host_buffer is None
    assert seen.offload_ops == frozenset()
    assert seen.optimizer is Optimizer.NONE
    assert seen.supports(op("MUL_MAT", tensor(F32, 64, 64), tensor(T.TQ1_0, 256, 64), tensor(F32, 256, 64)))
    own = 32 if backend is Backend.CPU else traits(backend).alignment
    assert seen.alignment == own


def test_a_peer_is_asked_about_the_memory_of_six_operations_and_of_quantised_rows() -> None:
    cuda, metal = on_a_peer(Backend.CUDA), on_a_peer(Backend.METAL)
    row = op("NONE", tensor(T.Q8_0, 32, 1))

    assert cuda.scratch_ops == {"FLASH_ATTN_EXT"}
    assert metal.scratch_ops == {"MUL_MAT_ID", "FLASH_ATTN_EXT", "CUMSUM", "ARGSORT", "TOP_K"}
    assert cuda.alloc_bytes(row) == traits(Backend.CUDA).alloc_bytes(row) > row.n_bytes
    assert on_a_peer(Backend.CPU).alloc_bytes(row) == row.n_bytes
