"""Models in folders that --dir and --from named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.models.kept import folders
from launcher.models.kept.list import Stores, list_stored, pick_stored
from launcher.models.kept.remove import remove_stored
from tests.pulling import UNIT
from tests.pulling_into_folder import NAME, ONE, TWO, Pulling, write


def test_a_partial_model_is_listed_and_removed(pulling: Pulling) -> None:
    pulling.interrupted("a/m", {NAME: ONE})
    (one,) = pulling.listed()
    assert (one.name, one.store, one.is_whole) == (str(pulling.folder / NAME), "launcher", False)
    assert UNIT <= one.here_bytes < len(ONE)
    assert remove_stored(one, pulling.store) > 0
    assert (pulling.listed(), [path.name for path in pulling.folder.iterdir()]) == ((), [".locks"])
    (pulling.folder / NAME).write_bytes(b"my own")
    assert [one.store for one in pulling.listed()] == ["yours"]


def test_what_was_put_into_lm_studios_folder_is_ours(pulling: Pulling, tmp_path: Path) -> None:
    studio = tmp_path / "lm"
    pulling.folder = studio / "pub" / "model"
    pulling.pull("a/m", {NAME: ONE})
    write(pulling.folder / "other-Q8_0.gguf", TWO)
    pulling.store.keep_folders([pulling.folder])
    kept = list_stored(
        Stores(hub_cache=tmp_path, models_dir=tmp_path / "no", lm_studio=(studio,)), pulling.store
    )
    assert sorted((one.name, one.store) for one in kept) == [
        (str(pulling.folder / NAME), "launcher"),
        ("pub/model:Q8_0", "lm studio"),
    ]
    (pulling.folder / "other-Q8_0.gguf").unlink()
    (ours,) = pick_stored(kept, [str(pulling.folder / NAME)])
    shutil.rmtree(pulling.folder / ".locks")
    remove_stored(ours, pulling.store)
    assert [path.name for path in pulling.folder.iterdir()] == [".locks"]


def test_a_named_folder_is_looked_through_as_far_as_is_quick(
    pulling: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put there is listed however deep it is; a folder that is gone is forgotten."""
    deep = "/".join("abcdef")
    pulling.pull("a/m", {f"{deep}/{NAME}": ONE})
    for place in (pulling.folder, pulling.folder / "a", pulling.folder / deep):
        write(place / "mine-Q4_0.gguf", TWO)
    ours, mine = str(pulling.folder / deep / NAME), "mine-Q4_0.gguf"
    near = [str(pulling.folder / mine), str(pulling.folder / "a" / mine)]
    assert sorted(one.name for one in pulling.listed()) == sorted([ours, *near])
    monkeypatch.setattr(folders, "_MOST_SEEN", 3)
    assert sorted(one.name for one in pulling.listed()) == sorted([ours, near[0]])
    gone = pulling.folder / "gone"
    pulling.store.keep_folders([gone])
    pulling.listed()
    assert pulling.store.folders() == (pulling.folder,)
