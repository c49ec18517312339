"""The shapes we ship, held against the published sizes of the files that they stand for."""

from __future__ import annotations

import math

import pytest

from launcher.gguf.architecture import read_architecture
from launcher.gguf.mixes import mix_rules
from launcher.gguf.shapes.build import build_shape
from launcher.gguf.synthesis import assign_types
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.profile import ModelProfile, ProfileQuant, RecipeBasis
from launcher.system.settings import profiles_dir
from launcher.units import GIB

SHIPPED = read_model_profiles([profiles_dir() / "models"]).usable
SHAPED = [(profile, quant) for profile in SHIPPED for quant in profile.quants if quant.recipe]

VOCABULARY_BYTES = 48
"""A word of a tokenizer in a real header, at most: string, length, type, score and merges. Made headers have none."""


def made_bytes(profile: ModelProfile, quant: ProfileQuant) -> int:
    made = make_headers(profile, quant)
    assert made is not None
    return sum(tensor.size_bytes for tensor in made[0].tensors)


def test_forty_models_can_be_planned_without_their_files():
    shaped = {profile.name for profile, _ in SHAPED}
    assert len(shaped) >= 40
    assert {profile.name for profile in SHIPPED} - shaped == {"smollm2-135m"}  # has saved headers


@pytest.mark.parametrize(("profile", "quant"), SHAPED, ids=lambda value: value.name)
def test_a_shape_meets_the_published_size(profile, quant):
    size = made_bytes(profile, quant)
    made = make_headers(profile, quant)
    words = read_architecture(made[0].metadata, made[0].tensors).n_vocab or 0
    over, under = (size - quant.size_bytes), (quant.size_bytes - size)
    assert over <= 0.005 * quant.size_bytes
    assert under <= max(0.005 * quant.size_bytes, VOCABULARY_BYTES * words)


def test_types_that_are_not_assumed_leave_a_tokenizer_and_no_more():
    """Nothing is fitted in these: dimensions that are wrong by one block or row would be seen."""
    fixed = [(p, q) for p, q in SHAPED if q.recipe.basis is RecipeBasis.PUBLISHED]
    gaps = {
        (p.name, q.name): q.size_bytes - made_bytes(p, q) for p, q in fixed if q.size_bytes < 50_000_000_000
    }
    assert len(gaps) >= 30
    assert all(-1_000_000 < gap < 17_000_000 for gap in gaps.values()), gaps


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-30b-a3b", 30.532),
        ("qwen3-235b", 235.094),
        ("qwen3-32b", 32.762),
        ("llama-3.1-8b", 8.030),
        ("llama-3.3-70b", 70.554),
        ("deepseek-r1", 671.026),
        ("kimi-k2", 1026.408),
        ("glm-4.7-flash", 29.943),
        ("gpt-oss-20b", 20.915),
        ("gpt-oss-120b", 116.829),
        ("minimax-m2", 228.690),
        ("glm-4.6", 356.786),
        ("glm-4.5-air", 110.469),
        ("qwen3.5-122b-a10b", 122.111),
        ("qwen3.6-35b-a3b", 34.661),
        ("gemma-4-31b", 30.697),
        ("gemma-4-26b-a4b", 25.233),
        ("gemma-4-12b", 11.907),
        ("qwen3-coder-480b", 480.155),
        ("glm-4.7", 358.338),
        ("glm-5.1", 753.864),
    ],
)
def test_a_shape_has_the_published_parameters(name, billions):
    profile = next(profile for profile in SHIPPED if profile.name == name)
    model, _, _ = make_headers(profile, profile.quants[0])
    assert sum(math.prod(tensor.shape) for tensor in model.tensors) / 1e9 == pytest.approx(billions, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "label", "gib"),
    [
        # README of ubergarm's repos: quants made for comparison, tensors alone
        ("glm-4.7", "Q8_0", 354.794),
        ("glm-4.7", "BF16", 667.598),
        ("glm-5.1", "Q8_0", 746.302),
        ("glm-5.1", "BF16", 1404.406),
    ],
)
def test_a_shape_has_the_size_of_a_quant_that_nobody_ships(name, label, gib):
    profile = next(profile for profile in SHIPPED if profile.name == name)
    shape = build_shape(profile.architecture.architecture, profile.architecture.dimensions)
    tensors = assign_types(shape.families, mix_rules(label))
    assert sum(tensor.size_bytes for tensor in tensors) / GIB == pytest.approx(gib, abs=5e-4)


def test_one_tokenizer_is_all_that_the_sizes_of_qwen35_leave():
    files = [(p, q) for p, q in SHAPED if p.name.startswith("qwen3.5-") and q.name == "Q8_0"]
    gaps = {profile.name: quant.size_bytes - made_bytes(profile, quant) for profile, quant in files}
    assert len(gaps) == 4
    assert max(gaps.values()) - min(gaps.values()) < 10_000, gaps


def test_every_number_has_a_source():
    for profile in SHIPPED:
        assert profile.context.source
        assert all(mode.source for mode in profile.modes)
        assert all(quant.size_source and quant.quality_source for quant in profile.quants)
        assert all(score.source for score in profile.scores)
        companions = [companion for companion in (profile.projector, profile.draft) if companion]
        assert all(companion.source for companion in companions)
