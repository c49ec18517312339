"""Folders of safetensors, as somebody else may have filled them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.errors import LauncherError, NotFound, UsageError
from launcher.models.safetensors import read_folder


def folder_with(folder: Path, index: object | None = None, **files: int) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    for name, size in files.items():
        (folder / f"{name}.safetensors").write_bytes(b"\0" * size)
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_one_file_is_its_size(tmp_path: Path) -> None:
    assert read_folder(folder_with(tmp_path, model=1000)) == ({"model_type": "llama"}, 1000)


def test_an_index_names_the_files_each_once(tmp_path: Path) -> None:
    weights = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}
    folder = folder_with(
        tmp_path, {"metadata": {"total_size": 1}, "weight_map": weights}, one=10, two=20, three=40
    )
    assert read_folder(folder)[1] == 30  # what it says of its size counts for nothing


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": {}},
        {"weight_map": {"a": 1}},
        {"weight_map": {"a": "../../etc/passwd"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": "sub/one.safetensors"}},
        {"weight_map": {"a": ""}},
        {"weight_map": {"a": "missing.safetensors"}},
    ],
)
def test_an_index_that_names_no_files_here_is_refused(tmp_path: Path, index: object) -> None:
    with pytest.raises(LauncherError):
        read_folder(folder_with(tmp_path, index, one=10))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no config\.json"):
        read_folder(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UsageError):
        read_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(UsageError):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError):
        read_folder(tmp_path)
