"""Traits of a device: its driver's limits, and the staging buffers of its backend."""

from __future__ import annotations

import pytest

from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend, Device
from launcher.simulate.backends.traits import Staging, Traits, traits_of
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
