import pytest

from launcher.errors import LauncherError, UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import Words, adhoc_machine
from launcher.machine.gpus import metal_working_set
from launcher.machine.to_toml import format_machine
from launcher.units import GIB


def test_adhoc_machine() -> None:
    machine = adhoc_machine(Words(gpus=("3090:2", "RTX 3060"), ram_bytes=128 * GIB))
    assert [(card.id, card.name) for card in machine.devices] == [
        ("CUDA0", "NVIDIA GeForce RTX 3090"),
        ("CUDA1", "NVIDIA GeForce RTX 3090"),
        ("CUDA2", "NVIDIA GeForce RTX 3060"),
    ]
    assert (machine.ram_total_bytes, machine.ram_available_bytes) == (128 * GIB, 124 * GIB)
    assert adhoc_machine(Words(gpus=(), ram_bytes=GIB)).devices == ()
    assert parse_machine(format_machine(machine), "adhoc") == machine


def test_adhoc_mac_shares_its_memory() -> None:
    machine = adhoc_machine(Words(gpus=("m4-max",), ram_bytes=128 * GIB))
    (gpu,) = machine.devices
    assert (machine.os, machine.arch, gpu.id, gpu.shares_host_memory) == ("darwin", "arm64", "MTL0", True)
    assert gpu.total_bytes == metal_working_set(128 * GIB) == 96 * GIB
    assert metal_working_set(24 * GIB) == 16 * GIB


@pytest.mark.parametrize(
    "spec", ["3090:0", "3090:x", "3090:", "3090:17", "3090:99999999999999999999", ":2", "", "nosuch"]
)
def test_adhoc_errors(spec: str) -> None:
    with pytest.raises(LauncherError) as caught:
        adhoc_machine(Words(gpus=(spec,), ram_bytes=GIB))
    assert caught.value.exit_code in {2, 4}
    assert caught.value.hint


def test_adhoc_limits() -> None:
    with pytest.raises(UsageError, match="18 GPUs are too many"):
        adhoc_machine(Words(gpus=("3090:9", "3060:9"), ram_bytes=GIB))
    with pytest.raises(UsageError, match="RAM of 0 bytes"):
        adhoc_machine(Words(gpus=("3090",), ram_bytes=0))


def test_a_card_can_be_named_by_its_size() -> None:
    machine = adhoc_machine(Words(gpus=("24G:2", "vulkan:16G"), ram_bytes=64 * GIB))
    assert [(card.id, card.total_bytes // GIB) for card in machine.devices] == [
        ("CUDA0", 24),
        ("CUDA1", 24),
        ("Vulkan0", 16),
    ]
    assert all(card.free_bytes is not None and card.free_bytes < card.total_bytes for card in machine.devices)
    with pytest.raises(LauncherError, match="no backend"):
        adhoc_machine(Words(gpus=("voodoo:16G",), ram_bytes=GIB))


def test_a_host_can_be_named() -> None:
    machine = adhoc_machine(Words(ram_bytes=512 * GIB, cpu="EPYC 9355", sockets=2))
    assert (machine.cpu.name, machine.cpu.physical_cores) == ("2 x EPYC 9355", 64)
    assert machine.notes == ()
    fast = adhoc_machine(Words(ram_bytes=512 * GIB, ram_bandwidth=460 * 10**9))
    assert fast.ram_bandwidth == 460 * 10**9
    with pytest.raises(LauncherError, match="no CPU is known by the name 'Nano'"):
        adhoc_machine(Words(ram_bytes=GIB, cpu="Nano"))


@pytest.mark.parametrize("sockets", [1, 2])
def test_sockets_in_the_name_of_a_cpu_count_once(sockets: int) -> None:
    machine = adhoc_machine(Words(ram_bytes=512 * GIB, cpu="2x Intel Xeon Gold 6454S", sockets=sockets))
    assert (machine.cpu.name, machine.cpu.physical_cores) == ("2 x Intel Xeon Gold 6454S", 64)
