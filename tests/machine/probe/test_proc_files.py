import os
from pathlib import Path

import pytest

from launcher.machine.probe.proc_files import parse_meminfo
from tests.machine.probe.trees import plant


def test_meminfo_text() -> None:
    assert parse_meminfo("MemTotal:  2 kB\nHugePages_Total:   3\nActive(file): 1 kB\nbroken\n") == {
        "MemTotal": 2048,
        "HugePages_Total": 3,
        "Active(file)": 1024,
    }


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
