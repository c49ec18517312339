import os
from pathlib import Path

import pytest

from launcher.machine.probe.cgroup import CgroupLimits
from launcher.machine.probe.host import (
    apply_limits,
    believable_nodes,
    parse_filesystem_type,
    read_host,
    read_nodes,
    read_store,
)
from launcher.machine.probe.proc_files import KernelFiles
from launcher.units import GIB
from tests.machine.probe.trees import capture, plant

KIB = 1024


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    host = read_host(KernelFiles(root=tmp_path))
    assert host.ram_total_bytes >= host.ram_available_bytes > 0
    assert "psutil" in host.notes[0]


def test_nodes_count_page_cache_as_free(tmp_path: Path) -> None:
    first, second = read_nodes(plant(tmp_path, "two_nodes.txt"))
    assert first.total_bytes == 528169540 * KIB
    assert first.free_bytes == (10000000 + 1000000 + 500000000 + 24000) * KIB
    assert (first.cpus[0], first.cpus[-1], len(first.cpus)) == (0, 191, 128)
    assert (second.node, second.free_bytes) == (1, 527000000 * KIB)


def test_numa_balancing_is_noted(tmp_path: Path) -> None:
    host = read_host(plant(tmp_path, "two_nodes.txt"))
    assert [node.node for node in host.nodes] == [0, 1]
    assert "numa_balancing=0" in " ".join(host.notes)


def test_nodes_that_do_not_add_up_are_not_used(tmp_path: Path) -> None:
    nodes = read_nodes(plant(tmp_path, "two_nodes.txt"))
    assert believable_nodes(nodes, sum(node.total_bytes for node in nodes)) == (nodes, ())
    kept, notes = believable_nodes(nodes, 64 * GIB)
    assert kept == ()
    assert notes == ("the NUMA nodes hold 1007.6 GiB, the host 64.0 GiB: the nodes are not used",)
    assert read_nodes(plant(tmp_path / "b", **{"/sys/devices/system/node/node0/meminfo": "?"})) == ()


def test_available_memory_respects_the_container(tmp_path: Path) -> None:
    host = read_host(plant(tmp_path, "container_v2.txt"))
    assert host.ram_total_bytes == 263856516 * KIB
    assert host.ram_limit_bytes == 32 * GIB
    assert host.ram_available_bytes == 29 * GIB + GIB // 4
    assert host.cpu.quota == 2.5
    assert host.notes == ("the cgroup limits memory to 32.0 GiB of the host's 251.6 GiB",)


def test_an_lxc_sees_its_limit_as_the_memory_and_the_hosts_nodes(tmp_path: Path) -> None:
    meminfo = f"MemTotal: {8 << 20} kB\nMemFree: {1 << 20} kB\nMemAvailable: {6 << 20} kB\n"
    mount = "700 690 0:52 /proc/meminfo /proc/meminfo rw,nosuid - fuse.lxcfs lxcfs rw\n"
    files = plant(tmp_path, "two_nodes.txt", **{"/proc/meminfo": meminfo, "/proc/self/mountinfo": mount})
    host = read_host(files)
    assert (host.ram_limit_bytes, host.ram_available_bytes) == (8 * GIB, 6 * GIB)
    assert host.ram_total_bytes == sum(node.total_bytes for node in host.nodes) > 1000 * GIB
    assert host.host_available_bytes == sum(node.free_bytes or 0 for node in host.nodes)


def test_a_limit_above_the_machine_is_none() -> None:
    limits = CgroupLimits(memory_bytes=500 * GIB, memory_headroom_bytes=400 * GIB, cpus=None)
    assert apply_limits(limits, 64 * GIB, 60 * GIB) == (None, 60 * GIB)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/models/x", "xfs"), ("/modelsx", "overlay"), ("/sys/fs/cgroup", "cgroup2"), ("/", "overlay")],
)
def test_filesystem_type_is_that_of_the_longest_mount(path: str, expected: str) -> None:
    mountinfo = capture("container_v2.txt").split("== ")[2]
    assert parse_filesystem_type(mountinfo, path) == expected
    assert parse_filesystem_type("nothing", path) is None


def test_the_later_of_two_mounts_at_one_point_counts() -> None:
    text = "1 0 8:1 / /m rw - ext4 a rw\n2 0 8:2 / /m rw - tmpfs b rw\n3 0 8:3 / /a\\040b rw - nfs4 c rw\n"
    assert parse_filesystem_type(text, "/m/x") == "tmpfs"
    assert parse_filesystem_type(text, "/a b/x") == "nfs4"


def test_a_store_that_does_not_exist_yet(tmp_path: Path) -> None:
    store, notes = read_store(tmp_path / "not" / "there", KernelFiles())
    assert store is not None
    assert (store.path, notes) == (str(tmp_path / "not" / "there"), ())
    numbers = os.statvfs(tmp_path)
    assert store.total_bytes == numbers.f_blocks * numbers.f_frsize
    assert 0 <= store.free_bytes <= store.total_bytes


@pytest.mark.parametrize("name", ["file/inside", "loop/inside", "bad\0name"])
def test_a_store_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    store, notes = read_store(tmp_path / name, KernelFiles())
    assert store is not None
    assert len(notes) == 1
    assert str(tmp_path / name) in notes[0]
