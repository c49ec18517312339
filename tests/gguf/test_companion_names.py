"""What a name is besides a model: a projector, an importance matrix, a draft model of some kind."""

from __future__ import annotations

import pytest

from launcher.gguf.companion_names import companion_kind, likely_kind, model_names


@pytest.mark.parametrize(
    ("path", "certain", "likely"),
    [
        ("model-Q4_0.gguf", None, None),
        ("mmproj-F16.gguf", "projector", "projector"),
        ("mmproj/F16.gguf", "projector", "projector"),
        ("imatrix.gguf", "imatrix", "imatrix"),
        ("imatrix-from-Q8_0.gguf", "imatrix", "imatrix"),
        ("model-chat-v2-imatrix.gguf", "imatrix", "imatrix"),
        ("model-imatrix-Q4_0.gguf", None, "imatrix"),  # a quant made with a matrix, or a matrix of that quant
        ("mtp-model.gguf", "mtp", "mtp"),
        ("model-draft-mtp.gguf", "mtp", "mtp"),
        ("model-Q8_0-MTP.gguf", None, "mtp"),
        ("model-MTP-Q6_K.gguf", None, None),
        ("model-EAGLE-3-Q8_0.gguf", None, "eagle3"),
        ("model-assistant.gguf", None, "mtp"),
        ("MTP/model-Q8_0.gguf", None, "mtp"),
        ("eagle-3/model-Q8_0.gguf", None, "eagle3"),
        ("heads/model-Q8_0.gguf", None, "draft"),
        ("drafts/model-Q8_0.gguf", None, "draft"),
    ],
)
def test_names_say_what_a_file_is_besides_a_model(path: str, certain: str | None, likely: str | None) -> None:
    assert companion_kind(path) == certain
    assert likely_kind(path) == likely


@pytest.mark.parametrize(("size", "is_model"), [(100, True), (99, False)])
def test_a_matrix_has_less_than_a_fortieth_of_the_largest_model(size: int, is_model: bool) -> None:
    models = model_names([("a-Q8_0.gguf", 4000), ("a-imatrix-Q2_K.gguf", size)])
    assert ("a-imatrix-Q2_K.gguf" in models) == is_model
    assert "a-Q8_0.gguf" in models


def test_where_nothing_else_is_the_companions_are_the_models() -> None:
    assert model_names([("mmproj.gguf", 9), ("a-Q8_0-MTP.gguf", 5)]) == {"a-Q8_0-MTP.gguf"}
    assert model_names([("imatrix.gguf", 9), ("a-imatrix.gguf", 5)]) == {"a-imatrix.gguf"}
    assert model_names([("mmproj.gguf", 9), ("readme.md", 1)]) == frozenset()
