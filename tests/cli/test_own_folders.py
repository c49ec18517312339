"""Folders of the user's own GGUF files: listed, and named by what `ls` shows first."""

from __future__ import annotations

from pathlib import Path

from tests.cli.shell import launcher
from tests.make_gguf import make_gguf


def test_a_model_of_a_folder_of_the_config_file_is_listed_and_named_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (path,) = make_gguf(folder / "sub" / "My-Own.Q8_0.gguf", "llama")
    home = {"LAUNCHER_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    set_ = launcher("config", "set", "folders", str(folder), **home)
    assert set_.returncode == 0, set_.stderr
    (row,) = [line for line in launcher("ls", **home).stdout.splitlines() if "Own" in line]
    name = row.split()[0]
    assert name == "My-Own.Q8_0"
    for typed in (name, name.upper()):
        found = launcher("inspect", typed, COLUMNS="300", **home)
        assert found.returncode == 0, found.stderr
        assert str(path) in found.stdout
    nothing = launcher("inspect", "My-Ow", **home)
    assert nothing.returncode == 4
