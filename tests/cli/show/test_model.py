"""What `inspect` says of where its numbers come from."""

from __future__ import annotations

from pathlib import Path

from tests.cli.shell import launcher
from tests.make_gguf import make_gguf


def test_a_model_of_which_no_file_was_read_says_so(tmp_path: Path) -> None:
    known = launcher("inspect", "qwen3-0.6b", "--offline")
    assert known.returncode == 0, known.stderr
    assert "as published: no file was read" in known.stdout
    (file,) = make_gguf(tmp_path / "m-Q8_0.gguf", "llama", hollow=True)
    read = launcher("inspect", str(file))
    assert read.returncode == 0, read.stderr
    assert "as its tensors are" in read.stdout
