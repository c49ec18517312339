from pathlib import Path

import pytest

from launcher.machine.probe.cgroup import (
    CgroupLimits,
    Mount,
    parse_cgroup_mounts,
    parse_cgroup_paths,
    read_limits,
)
from launcher.machine.probe.proc_files import KernelFiles
from launcher.units import GIB, MIB
from tests.machine.probe.trees import capture, plant


def test_container_with_cgroup_v2(tmp_path: Path) -> None:
    files = plant(tmp_path, "container_v2.txt")
    # 12 GiB used, of which 8 + 1 GiB page cache and 256 MiB slab can be taken back
    assert read_limits(files) == CgroupLimits(
        memory_bytes=32 * GIB, memory_headroom_bytes=32 * GIB - 3 * GIB + 256 * MIB, cpus=2.5
    )


def test_container_with_cgroup_v1(tmp_path: Path) -> None:
    files = plant(tmp_path, "container_v1.txt")
    assert read_limits(files) == CgroupLimits(memory_bytes=8 * GIB, memory_headroom_bytes=7 * GIB, cpus=1.5)


def test_the_tightest_level_counts(tmp_path: Path) -> None:
    files = plant(tmp_path, "slices_v2.txt")
    # the scope allows 8 GiB and 8 cores; its parent has 16 GiB (memory.high) with 14 used, and 4 cores
    assert read_limits(files) == CgroupLimits(memory_bytes=8 * GIB, memory_headroom_bytes=2 * GIB, cpus=4.0)


NO_LIMITS = CgroupLimits(memory_bytes=None, memory_headroom_bytes=None, cpus=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"},
        {"/sys/fs/cgroup/cpu.max": "", "/sys/fs/cgroup/memory.max": "a lot"},
        {"/sys/fs/cgroup/cpu.max": "100000 0", "/sys/fs/cgroup/memory.max": "\x00\ufffd"},
        {"/proc/self/cgroup": "garbage\n::\n5:", "/proc/self/mountinfo": "x - \n - cgroup2\n1 2 3"},
    ],
)
def test_no_limit_and_garbage_are_no_limit(tmp_path: Path, changes: dict[str, str]) -> None:
    assert read_limits(plant(tmp_path, "container_v2.txt", **changes)) == NO_LIMITS


def test_v1_writes_no_limit_as_a_huge_number(tmp_path: Path) -> None:
    files = plant(
        tmp_path,
        "container_v1.txt",
        **{
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        },
    )
    assert read_limits(files) == NO_LIMITS


def test_machine_without_cgroups(tmp_path: Path) -> None:
    assert read_limits(KernelFiles(root=tmp_path)) == NO_LIMITS


def test_mounts_and_paths_are_read_from_text() -> None:
    text = capture("container_v1.txt")
    assert Mount(
        point="/sys/fs/cgroup/memory", root="/docker/8d2c", controllers=frozenset({"rw", "memory"})
    ) in parse_cgroup_mounts(text)
    paths = parse_cgroup_paths("5:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n")
    assert paths == {"cpu": "/a", "cpuacct": "/a", "name=systemd": "/b:c", "": "/d"}


def test_a_group_outside_the_mount_is_the_mount_itself(tmp_path: Path) -> None:
    files = plant(tmp_path, "container_v2.txt", **{"/proc/self/cgroup": "0::/../../other.scope"})
    assert read_limits(files).cpus == 2.5
