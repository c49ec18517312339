"""Models start as what they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.commands.kind_flags import find_projector, output_flags
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
    model: Any = SimpleNamespace(metadata={"general.architecture": "bert", **metadata})
    assert output_flags(model, ()) == flags
    assert output_flags(model, ("--embedding",)) == ()


def test_a_model_sees_with_the_projector_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "seer-Q8_0.gguf"
    path.touch()
    located: Any = SimpleNamespace(files=LocalFiles(paths=(path,)))
    assert find_projector(located, None, ()) is None
    projector = tmp_path / "mmproj-seer-f16.gguf"
    projector.touch()
    (tmp_path / "seer-Q4_K_M.gguf").touch()
    found = find_projector(located, None, ())
    assert found is not None
    assert (found.name, found.flags) == (projector.name, ("-mm", str(projector)))
    assert find_projector(located, None, ("--no-mmproj",)) is None
    assert find_projector(located, None, ("--mmproj-url", "https://h/x.gguf")) is None
    (tmp_path / "another-Q8_0.gguf").touch()  # whose is it?
    assert find_projector(located, None, ()) is None
