"""A projector's compute: its estimate, and how far it grows."""

from __future__ import annotations

import pytest

from launcher.gguf.header import ValueType
from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.modes import FlashAttention
from launcher.units import MIB
from tests.builders import Typed, build_header
from tests.plan.memory.companion_files import file_of, projector_file


@pytest.mark.parametrize(
    ("kind", "most", "factor"),
    [
        ("gemma3", -1, 1.0),
        ("pixtral", -1, 4.0),
        ("pixtral", 512, 2.0),
        ("pixtral", 64, 1.0),
        ("pixtral", 0, 4.0),  # no limit either
        ("internvl", 512, 4.0),  # its tiles are of one size, several at once
        ("qwen2vl_merger", 46 * 46, 1.0),
        ("qwen2vl_merger", 2 * 46 * 46, 2.0),
        ("qwen2.5vl_merger", 2 * 46 * 46, 2.0),
        ("qwen3vl_merger", 2 * 46 * 46, 2.0),
        ("ling3vl", 2 * 46 * 46, 2.0),
        ("glm4v", 2 * 46 * 46, 2.0),
        ("dots_ocr", -1, 1.0),
    ],
)
def test_growth_beyond_the_warm_up(kind: str, most: int, factor: float) -> None:
    grown = compute_growth(projector_file(kind), most, FlashAttention.AUTO)
    assert grown.factor == factor
    assert ("warm-up" in grown.sentence) == (factor > 1 or kind == "dots_ocr")


def test_growth_is_quadratic_without_flash_attention() -> None:
    assert compute_growth(projector_file("pixtral"), -1, FlashAttention.OFF).factor == 16.0


def test_an_unknown_projector_has_a_wide_band() -> None:
    unknown = file_of(build_header({"general.architecture": "clip"}))
    assert estimate_compute(unknown, FlashAttention.AUTO).band_bytes == 512 * MIB


def test_what_hears_and_does_not_see_does_not_grow() -> None:
    header = {"general.architecture": "clip", "clip.projector_type": "pixtral"}
    assert compute_growth(file_of(build_header(header)), -1, FlashAttention.AUTO).factor == 1.0
    sees = {**header, "clip.has_vision_encoder": True, "clip.vision.projector_type": "gemma3"}
    assert compute_growth(file_of(build_header(sees)), -1, FlashAttention.AUTO).factor == 1.0


# 16 patches of 64 x 64 pixels, 10 wide, and a feed-forward of 50.
VISION = {
    "image_size": 64,
    "patch_size": 16,
    "embedding_length": 10,
    "feed_forward_length": 50,
    "projection_dim": 20,
    "attention.head_count": 2,
}


@pytest.mark.parametrize(
    ("changed", "flash", "n_bytes"),
    [
        ({}, FlashAttention.AUTO, 4 * (16 * (40 + 50) + 3 * 64 * 64)),
        ({"projection_dim": 30}, FlashAttention.ON, 4 * (16 * (40 + 60) + 3 * 64 * 64)),
        ({"projection_dim": 0}, FlashAttention.AUTO, 4 * (16 * (40 + 50) + 3 * 64 * 64)),
        ({}, FlashAttention.OFF, 4 * (16 * (40 + 50) + 3 * 64 * 64) + 4 * 2 * 16 * 16),
        ({"embedding_length": 0}, FlashAttention.AUTO, 512 * MIB),
        ({"embedding_length": True}, FlashAttention.AUTO, 512 * MIB),
        ({"image_size": "large"}, FlashAttention.AUTO, 512 * MIB),
        ({"patch_size": Typed(ValueType.I32, -16)}, FlashAttention.AUTO, 512 * MIB),
    ],
)
def test_compute_follows_from_patches_and_pixels(
    changed: dict[str, object], flash: FlashAttention, n_bytes: int
) -> None:
    numbers = {f"clip.vision.{key}": value for key, value in {**VISION, **changed}.items()}
    amount = estimate_compute(file_of(build_header({"general.architecture": "clip", **numbers})), flash)
    assert (amount.n_bytes, amount.band_bytes) == (n_bytes, n_bytes)
