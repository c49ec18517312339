import os
from pathlib import Path

from launcher.deployment.supervisor.protect import make_group, memory_max
from launcher.units import GIB


def test_the_limit_is_above_the_plan_and_below_the_machine() -> None:
    assert memory_max(10 * GIB, 64 * GIB) == 12 * GIB
    assert memory_max(60 * GIB, 64 * GIB) is None
    assert memory_max(10 * GIB, 64 * GIB, n_devices=2) == 20 * GIB
    assert memory_max(10 * GIB, 16 * GIB, n_devices=1) is None


def test_a_folder_that_is_no_cgroup_is_left_as_it_was(tmp_path: Path) -> None:
    assert make_group("m", 5, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_group_has_its_limit_and_counts(tmp_path: Path) -> None:
    group = tmp_path / f"launcher-m-{os.getpid()}"
    group.mkdir()
    (group / "memory.max").write_text("max")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    made = make_group("m", 5, tmp_path)
    assert made is not None
    assert (group / "memory.max").read_text() == "5"
    assert made.n_killed() == 1
