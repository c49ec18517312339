from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.system.atomic_files import write_atomically, write_named


def test_an_atomic_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert (path.read_bytes(), [entry.name for entry in tmp_path.iterdir()]) == (b"old", ["x"])


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            write_named(path, b"x")
    assert pipe.is_fifo()
    assert link.is_symlink()
    write_named(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
