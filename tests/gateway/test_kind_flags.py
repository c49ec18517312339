"""Models start as what they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.gateway.kind_flags import kind_flags
from launcher.models.located import LocalFiles


@pytest.mark.parametrize(
    ("metadata", "flags"),
    [
        ({}, ()),
        ({"bert.pooling_type": 1}, ("--embeddings",)),
        ({"bert.pooling_type": 4}, ("--reranking",)),
        ({"bert.pooling_type": 0}, ()),
        ({"bert.pooling_type": "4"}, ()),
        ({"other.pooling_type": 4}, ()),
    ],
)
def test_embedding_and_rerank_models_start_as_such(metadata: dict[str, Any], flags: tuple[str, ...]) -> None:
    located = a_model(Path("/nowhere/m-Q8_0.gguf"), {"general.architecture": "bert", **metadata})
    assert kind_flags(located, ()) == flags
    assert kind_flags(located, ("--embedding",)) == ()


def test_a_model_sees_with_the_projector_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "seer-Q8_0.gguf"
    path.touch()
    assert kind_flags(a_model(path, {}), ()) == ()
    projector = tmp_path / "mmproj-seer-f16.gguf"
    projector.touch()
    (tmp_path / "seer-Q4_K_M.gguf").touch()
    assert kind_flags(a_model(path, {}), ()) == ("--mmproj", str(projector))
    assert kind_flags(a_model(path, {}), ("--no-mmproj",)) == ()
    (tmp_path / "another-Q8_0.gguf").touch()  # whose is it?
    assert kind_flags(a_model(path, {}), ()) == ()


def a_model(path: Path, metadata: dict[str, Any]) -> Any:
    """What `kind_flags` looks at of a located model."""
    return SimpleNamespace(model=SimpleNamespace(metadata=metadata), files=LocalFiles(paths=(path,)))
