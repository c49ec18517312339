"""Locks between processes: waiting, giving up, and death as release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from launcher.system.locks import exclusive, exclusive_if_free

HOLDER = """
import sys
from pathlib import Path
from launcher.system.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_free_lock_is_had_at_once(tmp_path: Path) -> None:
    waited: list[bool] = []
    with exclusive(tmp_path / "deep" / "lock", on_wait=lambda: waited.append(True)):
        pass
    with exclusive_if_free(tmp_path / "deep" / "lock") as free:
        assert free
    assert waited == []


def test_a_held_lock_is_waited_for_and_said_so_once(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        with exclusive_if_free(tmp_path / "lock") as free:
            assert not free
        waited: list[bool] = []

        def release() -> None:
            waited.append(True)
            assert process.stdin is not None
            process.stdin.close()

        with exclusive(tmp_path / "lock", on_wait=release):
            assert waited == [True]


def test_kill_9_releases(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        process.kill()
        process.wait()
        with exclusive_if_free(tmp_path / "lock") as free:
            assert free


def test_a_child_that_was_given_the_lock_keeps_it(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock") as descriptor:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    with child:
        with exclusive_if_free(tmp_path / "lock") as free:
            assert not free
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        with exclusive_if_free(tmp_path / "lock") as free:
            assert free
