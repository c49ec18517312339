"""Folders of safetensors, as somebody else may have filled them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import LauncherError, NotFound, UsageError
from launcher.models.hub.endpoint import Endpoint
from launcher.models.safetensors import read_folder, read_repo
from tests.fakes.hub import FakeHub


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


def test_a_repo_is_its_config_and_the_sizes_of_its_listing(hub: FakeHub, endpoint: Endpoint) -> None:
    files = {
        "config.json": b'{"model_type": "llama"}',
        "model-00001-of-00002.safetensors": b"0" * 1000,
        "model-00002-of-00002.safetensors": b"0" * 500,
        "consolidated.safetensors": b"0" * 1500,
        "original/model.safetensors": b"0" * 1500,
        "model-Q8_0.gguf": b"0" * 700,
    }
    hub.publish("user/repo", files)
    assert read_repo("user/repo", endpoint) == ({"model_type": "llama"}, 1500)
    with pytest.raises(NotFound, match="user/repo"):
        read_repo("user/repo", replace(endpoint, offline=True))


@pytest.mark.parametrize("config", [b"[" * 5000, b"{", b" " * ((1 << 20) + 1), None])
def test_a_repo_whose_config_is_no_json_or_too_large_is_refused(
    hub: FakeHub, endpoint: Endpoint, config: bytes | None
) -> None:
    named = {} if config is None else {"config.json": config}
    hub.publish("user/repo", {"model.safetensors": b"0", **named})
    with pytest.raises(LauncherError):
        read_repo("user/repo", endpoint)
    hub.publish("user/empty", {"config.json": b"{}"})
    with pytest.raises(NotFound, match="no safetensors"):
        read_repo("user/empty", endpoint)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_weights_that_are_no_file_have_no_size(tmp_path: Path, kind: str) -> None:
    weights = folder_with(tmp_path) / "model.safetensors"
    match kind:
        case "pipe":
            os.mkfifo(weights)
        case "folder":
            weights.mkdir()
        case _:
            weights.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is no regular file"):
        read_folder(tmp_path)
