import os
from pathlib import Path

import pytest

from launcher.machine.probe.cgroup import CgroupLimits
from launcher.machine.probe.cpu import parse_cores, parse_cpu_name, parse_isa, read_cpu
from launcher.machine.probe.host import (
    apply_limits,
    believable_nodes,
    parse_filesystem_type,
    read_host,
    read_nodes,
    read_store,
)
from launcher.machine.probe.proc_files import KernelFiles, parse_meminfo
from launcher.units import GIB
from tests.machine.probe.trees import capture, plant

KIB = 1024


def test_hybrid_cpu_counts_performance_cores(tmp_path: Path) -> None:
    files = plant(tmp_path, "hybrid_laptop.txt")
    cpu = read_cpu(files, range(6), None)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.affinity) == (4, 2, 6, 6)
    assert cpu.name == "13th Gen Intel(R) Core(TM) i7-1355U"
    assert cpu.isa == ("AVX", "AVX_VNNI", "AVX2", "F16C", "FMA", "BMI2")


def test_affinity_leaves_fewer_cores(tmp_path: Path) -> None:
    files = plant(tmp_path, "hybrid_laptop.txt")
    cpu = read_cpu(files, {0, 1, 4}, 1.5)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.affinity) == (2, 1, 6, 3)
    assert cpu.quota == 1.5
    only_efficient = read_cpu(files, {4, 5}, None)
    assert (only_efficient.physical_cores, only_efficient.performance_cores) == (2, 2)


def test_arm_cores_by_capacity(tmp_path: Path) -> None:
    cpu = read_cpu(plant(tmp_path, "arm_big_little.txt"), range(4), None)
    assert (cpu.physical_cores, cpu.performance_cores) == (4, 2)
    assert cpu.isa == ("NEON", "FP16_VA", "MATMUL_INT8", "SVE", "DOTPROD")
    assert cpu.name is None


def test_cores_from_cpuinfo_where_sysfs_is_silent(tmp_path: Path) -> None:
    text = capture("hybrid_laptop.txt").split("== ")[1]
    cpu = read_cpu(plant(tmp_path, **{"/proc/cpuinfo": text}), range(2), None)
    assert (cpu.physical_cores, cpu.logical_cores) == (1, 2)
    assert parse_cores(text) == {frozenset({0, 1})}


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    cpu = read_cpu(KernelFiles(root=tmp_path), {0, 1}, None)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.isa) == (None, None, 2, ())
    host = read_host(KernelFiles(root=tmp_path))
    assert host.ram_total_bytes >= host.ram_available_bytes > 0
    assert "psutil" in host.notes[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx avx2 avx512f avx512cd avx512vl avx512dq", ("AVX", "AVX2")),  # avx512bw is missing
        ("avx512f avx512cd avx512vl avx512dq avx512bw avx512_vnni", ("AVX512", "AVX512_VNNI")),
        ("amx_tile amx_int8 amx_bf16 avx512_bf16 avx512vbmi", ("AVX512_VBMI", "AVX512_BF16", "AMX_INT8")),
        ("amx_int8", ()),
        ("", ()),
    ],
)
def test_isa_flags_in_ggml_spelling(flags: str, expected: tuple[str, ...]) -> None:
    assert parse_isa(f"processor\t: 0\nflags\t\t: {flags}\n") == expected


def test_cpuinfo_garbage() -> None:
    assert (parse_isa("\x00nonsense"), parse_cpu_name("model name\t:\n"), parse_cores("core id: x")) == (
        (),
        None,
        frozenset(),
    )


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


def test_a_limit_above_the_machine_is_none() -> None:
    limits = CgroupLimits(memory_bytes=500 * GIB, memory_headroom_bytes=400 * GIB, cpus=None)
    assert apply_limits(limits, 64 * GIB, 60 * GIB) == (None, 60 * GIB)


def test_meminfo_text() -> None:
    assert parse_meminfo("MemTotal:  2 kB\nHugePages_Total:   3\nActive(file): 1 kB\nbroken\n") == {
        "MemTotal": 2048,
        "HugePages_Total": 3,
        "Active(file)": 1024,
    }


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


def test_unreadable_files_are_unknown(tmp_path: Path) -> None:
    files = plant(tmp_path, **{"/a": "not a number", "/b": "0x1002", "/c": "12\n"})
    (tmp_path / "d").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    assert [files.number(f"/{name}") for name in ("a", "b", "c", "d", "missing", "folder")] == [
        None,
        0x1002,
        12,
        None,
        None,
        None,
    ]
    assert files.names("/missing", ".*") == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_denied_files_are_unknown(tmp_path: Path) -> None:
    files = plant(tmp_path, **{"/a": "1"})
    (tmp_path / "a").chmod(0)
    assert files.number("/a") is None
