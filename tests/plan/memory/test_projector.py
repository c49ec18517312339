"""A projector's compute: its estimate, and how far it grows."""

from __future__ import annotations

import pytest

from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.modes import FlashAttention
from launcher.units import MIB
from tests.builders import build_header
from tests.plan.memory.companion_files import file_of, projector_file


@pytest.mark.parametrize(
    ("kind", "most", "factor"),
    [
        ("gemma3", -1, 1.0),
        ("pixtral", -1, 4.0),
        ("pixtral", 512, 2.0),
        ("pixtral", 64, 1.0),
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
