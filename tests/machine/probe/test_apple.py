import pytest

from launcher.machine.machine import Backend
from launcher.machine.probe.apple import apple_devices, parse_gpu_name, parse_sysctl
from launcher.units import GIB
from tests.machine.probe.trees import capture

SYSCTL = parse_sysctl(capture("sysctl_m3_ultra.txt"))


def test_metal_share_is_an_estimate_until_it_is_set() -> None:
    (device,), notes = apple_devices(SYSCTL, None, 500 * GIB)
    assert (device.id, device.backend, device.name) == ("MTL0", Backend.METAL, "Apple M3 Ultra")
    assert (device.total_bytes, device.free_bytes, device.shares_host_memory) == (384 * GIB, 384 * GIB, True)
    assert "estimated" in notes[0]
    (device,), notes = apple_devices(SYSCTL | {"iogpu.wired_limit_mb": "458752"}, "Apple M3 Ultra", 100 * GIB)
    assert (device.total_bytes, device.free_bytes, notes) == (448 * GIB, 100 * GIB, ())


def test_a_mac_without_apple_silicon_or_without_sysctl() -> None:
    assert apple_devices({}, "Apple M1", GIB) == ((), ())
    assert apple_devices({"hw.memsize": str(16 * GIB)}, "AMD Radeon Pro 5500M", GIB) == ((), ())


def test_gpu_name() -> None:
    assert parse_gpu_name(capture("displays_m3_pro.json")) == "Apple M3 Pro"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"SPDisplaysDataType": []}',
        '{"SPDisplaysDataType": [{}]}',
        '{"SPDisplaysDataType": [3]}',
    ],
)
def test_no_gpu_name(text: str) -> None:
    assert parse_gpu_name(text) is None
