"""Shapes from dimensions: what is missing, unknown or absurd is refused by name."""

from __future__ import annotations

import math

import pytest

from launcher.errors import BadGguf
from launcher.gguf.shapes.build import SHAPED, build_shape

QWEN3 = {
    "blocks": 2,
    "embedding": 256,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "feed_forward": 512,
    "vocabulary": 1000,
    "context": 4096,
    "qk_norm": 1,
}


def parameters(architecture: str, dimensions: dict[str, int]) -> int:
    families = build_shape(architecture, dimensions.items()).families
    return sum(math.prod(family.shape) * (family.last - family.first + 1) for family in families)


def test_the_tensors_are_those_of_the_dimensions():
    per_block = 2 * 256 * 256 + 2 * 256 * 128 + 2 * 64 + 3 * 256 * 512 + 2 * 256
    assert parameters("qwen3", QWEN3) == 2 * per_block + 2 * 256 * 1000 + 256
    assert parameters("qwen3", QWEN3 | {"tied": 1}) == 2 * per_block + 256 * 1000 + 256


def test_metadata_names_the_architecture_and_its_numbers():
    metadata = dict(build_shape("qwen3", QWEN3.items()).metadata)
    assert metadata["general.architecture"] == "qwen3"
    assert (metadata["qwen3.block_count"], metadata["qwen3.attention.key_length"]) == (2, 64)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"blocks": 513}, "blocks is 513, and 512 is the most"),
        ({"embedding": -1}, "embedding is -1"),
        ({"embedding": True}, "embedding is True"),
        ({"embedding": 2.5}, "embedding is 2.5"),
        ({"vocabulary": 1 << 40}, "vocabulary is 1099511627776"),
        ({"haeds": 4}, "has no haeds"),
    ],
)
def test_a_dimension_that_cannot_be_is_refused(changed, said):
    with pytest.raises(BadGguf, match=said):
        build_shape("qwen3", (QWEN3 | changed).items())


@pytest.mark.parametrize("missing", [name for name in QWEN3 if name != "qk_norm"])
def test_a_dimension_that_is_missing_is_named(missing):
    with pytest.raises(BadGguf, match=f"needs {missing}"):
        build_shape("qwen3", {key: value for key, value in QWEN3.items() if key != missing}.items())


def test_an_architecture_without_a_builder_is_refused():
    with pytest.raises(BadGguf, match="no shape is known for mamba9"):
        build_shape("mamba9", QWEN3.items())


@pytest.mark.parametrize("architecture", SHAPED)
def test_every_builder_says_what_it_needs(architecture):
    with pytest.raises(BadGguf, match="needs"):
        build_shape(architecture, ())


def test_gemma4_slides_five_times_of_six():
    dimensions = {
        "blocks": 6, "embedding": 256, "heads": 4, "kv_heads": 1, "sliding_kv_heads": 2, "head_dim": 512,
        "sliding_head_dim": 256, "feed_forward": 512, "vocabulary": 100, "context": 4096,
        "sliding_window": 1024, "tied": 1,
    }  # fmt: skip
    shape = build_shape("gemma4", dimensions.items())
    metadata = dict(shape.metadata)
    assert metadata["gemma4.attention.sliding_window_pattern"] == (True,) * 5 + (False,)
    assert metadata["gemma4.attention.head_count_kv"] == (2,) * 5 + (1,)
    values = [family.first for family in shape.families if family.name.endswith("attn_v.weight")]
    assert values == [0, 1, 2, 3, 4]


SMALL_GEMMA = {
    "blocks": 10, "embedding": 256, "heads": 4, "kv_heads": 1, "sliding_kv_heads": 1, "head_dim": 512,
    "sliding_head_dim": 256, "feed_forward": 512, "vocabulary": 100, "context": 4096, "sliding_window": 512,
    "tied": 1, "interval": 5, "shared_kv_blocks": 4, "double_wide": 1, "values_in_full": 1,
    "block_embedding": 64,
}  # fmt: skip


def test_gemma4_with_an_embedding_for_every_block():
    shape = build_shape("gemma4", SMALL_GEMMA.items())
    metadata = dict(shape.metadata)
    assert metadata["gemma4.attention.sliding_window_pattern"] == ((True,) * 4 + (False,)) * 2
    assert metadata["gemma4.attention.shared_kv_layers"] == 4
    assert metadata["gemma4.feed_forward_length"] == (512,) * 6 + (1024,) * 4
    shapes = {family.name: family.shape for family in shape.families}
    assert shapes["per_layer_token_embd.weight"] == (640, 100)
    assert shapes["per_layer_model_proj.weight"] == (256, 640)
    assert len([family for family in shape.families if family.name.endswith("attn_v.weight")]) == 10


@pytest.mark.parametrize("interval", [0, 1])
def test_gemma4_without_a_sliding_block_is_refused(interval):
    with pytest.raises(BadGguf, match="has no sliding_kv_heads"):
        build_shape("gemma4", (SMALL_GEMMA | {"interval": interval}).items())


def test_gemma4_may_share_more_blocks_than_it_has():
    shape = build_shape("gemma4", (SMALL_GEMMA | {"shared_kv_blocks": 99}).items())
    assert dict(shape.metadata)["gemma4.feed_forward_length"] == (1024,) * 10
