from __future__ import annotations

from tests.tiny_gguf import tiny_gguf


def test_tiny_models_are_what_they_claim() -> None:
    assert len(tiny_gguf(n_values=1000)) > 4000
