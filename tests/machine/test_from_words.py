import pytest

from launcher.errors import LauncherError, UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import adhoc_machine
from launcher.machine.gpus import metal_working_set
from launcher.machine.to_toml import format_machine
from launcher.units import GIB


def test_adhoc_machine() -> None:
    machine = adhoc_machine(("3090:2", "RTX 3060"), 128 * GIB)
    assert [(card.id, card.name) for card in machine.devices] == [
        ("CUDA0", "NVIDIA GeForce RTX 3090"),
        ("CUDA1", "NVIDIA GeForce RTX 3090"),
        ("CUDA2", "NVIDIA GeForce RTX 3060"),
    ]
    assert (machine.ram_total_bytes, machine.ram_available_bytes) == (128 * GIB, 124 * GIB)
    assert adhoc_machine((), GIB).devices == ()
    assert parse_machine(format_machine(machine), "adhoc") == machine


def test_adhoc_mac_shares_its_memory() -> None:
    machine = adhoc_machine(("m4-max",), 128 * GIB)
    (gpu,) = machine.devices
    assert (machine.os, machine.arch, gpu.id, gpu.shares_host_memory) == ("darwin", "arm64", "MTL0", True)
    assert gpu.total_bytes == metal_working_set(128 * GIB) == 96 * GIB
    assert metal_working_set(24 * GIB) == 16 * GIB


@pytest.mark.parametrize(
    "spec", ["3090:0", "3090:x", "3090:", "3090:17", "3090:99999999999999999999", ":2", "", "nosuch"]
)
def test_adhoc_errors(spec: str) -> None:
    with pytest.raises(LauncherError) as caught:
        adhoc_machine((spec,), GIB)
    assert caught.value.exit_code in {2, 4}
    assert caught.value.hint


def test_adhoc_limits() -> None:
    with pytest.raises(UsageError, match="18 GPUs are too many"):
        adhoc_machine(("3090:9", "3060:9"), GIB)
    with pytest.raises(UsageError, match="RAM of 0 bytes"):
        adhoc_machine(("3090",), 0)
