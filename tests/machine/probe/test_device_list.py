import pytest

from launcher.machine.machine import Backend
from launcher.machine.probe.device_list import parse_device_list
from launcher.units import MIB
from tests.machine.probe.trees import capture


def test_two_software_gpus() -> None:
    first, second = parse_device_list(capture("list_devices_lavapipe.txt"))
    assert (first.id, second.id) == ("Vulkan0", "Vulkan1")
    assert (first.backend, first.name) == (Backend.VULKAN, "llvmpipe (LLVM 15.0.6, 256 bits)")
    assert (first.total_bytes, first.free_bytes, first.shares_host_memory) == (2048 * MIB, 2048 * MIB, False)


def test_rpc_and_blas_are_no_gpus() -> None:
    devices = parse_device_list(capture("list_devices_8xh100.txt"))
    assert [device.id for device in devices] == [f"CUDA{number}" for number in range(8)]
    assert {device.free_bytes for device in devices} == {80566 * MIB}


@pytest.mark.parametrize(
    "text", ["", "Available devices:\n  (none)\n", capture("list_devices_none.txt"), "\x00\n" * 9]
)
def test_no_devices(text: str) -> None:
    assert parse_device_list(text) == ()


@pytest.mark.parametrize(
    ("line", "backend", "shares"),
    [
        ("  MTL0: Apple M4 Max (98304 MiB, 98303 MiB free)", Backend.METAL, True),
        ("  Metal: Apple M4 Max (98304 MiB, 98303 MiB free)", Backend.METAL, True),
        ("  MTL0: AMD Radeon Pro 5500M (8176 MiB, 8000 MiB free)", Backend.METAL, False),
        ("  ROCm0: AMD Radeon Graphics (122880 MiB, 114915 MiB free)", Backend.HIP, False),
        ("  SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)", Backend.SYCL, False),
        (
            "  Vulkan0: Intel(R) Arc(tm) B580 Graphics (BMG G21) (12216 MiB, 11000 MiB free)",
            Backend.VULKAN,
            False,
        ),
        ("  Vulkan0: Intel(R) Graphics (RPL-P) (15700 MiB, 15700 MiB free)", Backend.VULKAN, True),
        ("  Vulkan0: Intel(R) UHD Graphics 770 (15700 MiB, 15700 MiB free)", Backend.VULKAN, True),
        ("  Vulkan0: Intel(R) Arc(tm) Graphics (MTL) (15700 MiB, 15700 MiB free)", Backend.VULKAN, True),
        ("  CUDA0: NVIDIA GB10 (122502 MiB, 119000 MiB free)\r", Backend.CUDA, True),
    ],
)
def test_backends_by_prefix_and_shared_memory_by_name(line: str, backend: Backend, shares: bool) -> None:
    (device,) = parse_device_list(f"Available devices:\n{line}\n")
    assert (device.backend, device.shares_host_memory) == (backend, shares)


def test_free_is_never_more_than_total_and_broken_devices_are_left_out() -> None:
    text = (
        "Available devices:\n  CUDA0: A (0 MiB, 0 MiB free)\n  CUDA1: B (100 MiB, 200 MiB free)\n"
        "  CUDA2: C (1 MiB)\n  CANN0: D (9 MiB, 9 MiB free)\nCUDA3: E (1 MiB, 1 MiB free)\n"
        "  CUDA4: F (99999999999999999999 MiB, 1 MiB free)\n"
    )
    (device,) = parse_device_list(text)
    assert (device.id, device.total_bytes, device.free_bytes) == ("CUDA1", 100 * MIB, 100 * MIB)


def test_only_the_list_counts() -> None:
    text = "  CUDA0: log line (1 MiB, 1 MiB free)\nAvailable devices:\n  (none)\n"
    assert parse_device_list(text) == ()
