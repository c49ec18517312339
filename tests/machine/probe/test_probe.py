import os
from dataclasses import replace
from pathlib import Path

from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import Machine
from launcher.machine.probe.devices import DriverReport
from launcher.machine.probe.probe import machine_of, note_missing_driver, read_hardware
from launcher.machine.probe.proc_files import KernelFiles
from launcher.machine.to_toml import format_machine
from launcher.units import GIB
from tests.machine.probe.records import listed
from tests.machine.probe.trees import plant

RAM = (128 * GIB, 100 * GIB)


def test_this_very_machine(tmp_path: Path) -> None:
    machine = machine_of(read_hardware(tmp_path / "models", os.environ), None)
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert 1 <= machine.cpu.affinity <= machine.cpu.logical_cores
    assert (machine.cpu.physical_cores or 1) >= (machine.cpu.performance_cores or 1)
    assert machine.store is not None
    assert machine.store.path == str(tmp_path / "models")
    assert parse_machine(format_machine(machine), "probed") == machine


def test_a_machine_without_anything(tmp_path: Path) -> None:
    machine = machine_of(read_hardware(tmp_path, os.environ, KernelFiles(root=tmp_path / "nothing")), ())
    assert (machine.devices, machine.nodes, machine.ram_limit_bytes) == ((), (), None)
    assert machine.cpu.affinity == len(os.sched_getaffinity(0))


def test_a_container(tmp_path: Path) -> None:
    machine = machine_of(read_hardware(tmp_path, os.environ, plant(tmp_path, "container_v2.txt")), None)
    assert (machine.ram_limit_bytes, machine.cpu.quota) == (32 * GIB, 2.5)


def test_a_gpu_without_a_driver_is_noted(tmp_path: Path) -> None:
    pci = "/sys/bus/pci/devices/0000:01:00"
    files = plant(
        tmp_path,
        **{
            f"{pci}.0/vendor": "0x10de",
            f"{pci}.0/class": "0x030000",
            f"{pci}.1/vendor": "0x10de",
            f"{pci}.1/class": "0x040300",
        },
    )
    assert note_missing_driver(files)[0].startswith("1 NVIDIA GPU on the PCI bus")
    assert note_missing_driver(KernelFiles(root=tmp_path / "x")) == ()


NODE = "/sys/devices/system/node/node"


def grace_hopper(tmp_path: Path, hbm_gib: int = 94) -> Machine:
    """A GH200: 480 GiB of LPDDR, and the HBM as a node without CPUs, both in MemTotal."""
    kib = {0: (480 * GIB // 1024, 400 * GIB // 1024), 1: (hbm_gib * GIB // 1024, 93 * GIB // 1024)}
    files = {
        "/proc/meminfo": f"MemTotal: {sum(total for total, _ in kib.values())} kB\n"
        f"MemAvailable: {sum(free for _, free in kib.values())} kB\n",
        f"{NODE}0/cpulist": "0-71",
        f"{NODE}1/cpulist": "",
    }
    for node, (total, free) in kib.items():
        files[f"{NODE}{node}/meminfo"] = f"Node {node} MemTotal: {total} kB\nNode {node} MemFree: {free} kB\n"
    hardware = read_hardware(tmp_path, os.environ, plant(tmp_path, **files))
    lines = listed("CUDA0: NVIDIA GH200 480GB (96768 MiB, 96000 MiB free)")
    return machine_of(replace(hardware, drivers=DriverReport()), lines)


def test_coherent_memory_is_two_pools_and_not_one(tmp_path: Path) -> None:
    machine = grace_hopper(tmp_path)
    (gpu,) = machine.devices
    assert not gpu.shares_host_memory
    assert machine.ram_total_bytes == 480 * GIB
    assert machine.ram_available_bytes == 400 * GIB
    assert [node.node for node in machine.nodes] == [0]
    assert any("NUMA node 1 (94.0 GiB) is the memory of a GPU" in note for note in machine.notes)


def test_a_node_of_another_size_is_memory_of_the_host(tmp_path: Path) -> None:
    assert grace_hopper(tmp_path, hbm_gib=256).ram_total_bytes == (480 + 256) * GIB
