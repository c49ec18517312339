from __future__ import annotations

from pathlib import Path

import pytest

from launcher.system.atomic_files import write_atomically


def test_an_atomic_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert (path.read_bytes(), [entry.name for entry in tmp_path.iterdir()]) == (b"old", ["x"])
