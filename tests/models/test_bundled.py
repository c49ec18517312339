"""The model of an installed bundle, found by its names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.models.bundled import BUNDLE_LOCK, bundles_folder, find_bundled
from tests.make_gguf import make_gguf


def installed(models_dir: Path, folder: str, *, at: int = 1, **changes: Any) -> Path:
    place = bundles_folder(models_dir) / folder
    place.mkdir(parents=True)
    (path,) = make_gguf(place / "m-Q8_0.gguf", "llama", hollow=True)
    document = {
        "ref": "user/m-GGUF:Q8_0",
        "model_id": "m-Q8_0",
        "shards": [{"name": path.name}],
        "beside": [],
    }
    (place / BUNDLE_LOCK).write_text(json.dumps(document | changes))
    os.utime(place / BUNDLE_LOCK, (at, at))
    return path


@pytest.mark.parametrize("name", ["user/m-GGUF:Q8_0", "m-Q8_0", "m-q8_0"])
def test_it_is_called_as_its_ref_its_model_and_its_folder(tmp_path: Path, name: str) -> None:
    path = installed(tmp_path, "m-q8_0-0123abcd")
    found = find_bundled(tmp_path, name)
    assert found is not None
    assert found.path == path
    located = found.open()
    assert located.notes == (f"its file is that of the bundle in {path.parent}",)
    assert find_bundled(tmp_path, "m") is None


def test_the_newest_of_two_is_meant(tmp_path: Path) -> None:
    installed(tmp_path, "m-q8_0-0123abcd", at=5)
    newer = installed(tmp_path, "m-q8_0-89abcdef", at=9)
    found = find_bundled(tmp_path, "m-Q8_0")
    assert found is not None
    assert found.path == newer


def test_companions_that_a_name_does_not_load_are_said(tmp_path: Path) -> None:
    installed(tmp_path, "m-q8_0-0123abcd", beside=[{}])
    found = find_bundled(tmp_path, "m-Q8_0")
    assert found is not None
    assert "whose 1 companions are loaded by launcher up --locked" in found.open().notes[0]


@pytest.mark.parametrize(
    "changes",
    [{"model_id": 7}, {"shards": []}, {"shards": [{"name": "gone.gguf"}]}, {"shards": "x"}, {"beside": None}],
)
def test_a_folder_that_is_no_bundle_has_no_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    installed(tmp_path, "m-q8_0-0123abcd", **changes)
    assert find_bundled(tmp_path, "m-Q8_0") is None


def test_a_path_is_a_path_and_a_bundle_on_its_way_is_none(tmp_path: Path) -> None:
    installed(tmp_path, "m-0123abcd", ref="/m.gguf")
    installed(tmp_path, ".install-n-0123abcd", model_id="n")
    assert find_bundled(tmp_path, "/m.gguf") is None
    assert find_bundled(tmp_path, "n") is None
