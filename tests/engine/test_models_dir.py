"""Which files of a folder are models; what the real router lists is in tests/commands/test_check_router.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.models_dir import list_models_dir
from launcher.errors import NotFound, UsageError


def test_files_folders_shards_and_companions(tmp_path: Path) -> None:
    for name in (
        "one.gguf",
        "mmproj-x.gguf",
        "mtp-x.gguf",
        "readme.md",
        "s-00001-of-00002.gguf",
        "s-00002-of-00002.gguf",
        "big/big-00001-of-00002.gguf",
        "big/big-00002-of-00002.gguf",
        "big/mmproj-F16.gguf",
        "big/dflash-big.gguf",
        "alone/mmproj-F16.gguf",
        "two/a.gguf",
        "two/b.gguf",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    models, notes = list_models_dir(tmp_path)
    by_name = {model.name: model for model in models}
    assert sorted(by_name) == ["big", "one", "s-00001-of-00002", "two"]
    big = by_name["big"]
    assert Path(big.model).name == "big-00001-of-00002.gguf"
    assert (Path(big.projector or "").name, Path(big.draft or "").name) == (
        "mmproj-F16.gguf",
        "dflash-big.gguf",
    )
    assert sorted(notes) == [
        "s-00002-of-00002.gguf is listed as a model and is none: a split model needs a folder",
        "two has 2 models: llama-server takes one, in no order",
    ]


def test_what_is_no_folder_or_far_too_large(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        list_models_dir(tmp_path / "none")
    for number in range(300):
        (tmp_path / f"{number}.gguf").touch()
    with pytest.raises(UsageError, match="300 models, and 256 are the most"):
        list_models_dir(tmp_path)


def test_a_link_to_itself_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").touch()
    for place in ("round.gguf", "round", "folder/round.gguf"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).symlink_to(Path(place).name)
    models, _ = list_models_dir(tmp_path)
    assert [model.name for model in models] == ["one"]
