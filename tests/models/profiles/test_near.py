"""The profiles that a name nearly names."""

from __future__ import annotations

import pytest

from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.near import near_names, squeeze
from launcher.system.settings import profiles_dir

NAMES = read_model_profiles([profiles_dir() / "models"]).names


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("llama3", "llama-3.1-8b"),
        ("llama3.2", "llama-3.2-1b"),
        ("Qwen3-8B-Instruct", "qwen3-8b"),
        ("gpt_oss:20b", "gpt-oss-20b"),
        ("deepsek-r1", "deepseek-r1"),
        ("kimi", "kimi-k2"),
        ("gemma4", "gemma-4-12b"),
        ("unsloth/GLM-4.7-Flash", "glm-4.7-flash"),
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m"),
        ("qwen3-8b:Q4_K_M", "qwen3-8b"),
    ],
)
def test_the_nearest_is_named_first(typed, first):
    assert near_names(typed, NAMES)[0] == first


@pytest.mark.parametrize("typed", ["", ":", "/", "---", "zzzzzzzz", "é" * 4000])
def test_what_is_like_nothing_names_nothing(typed):
    assert near_names(typed, NAMES) == ()


def test_never_more_than_three():
    assert len(near_names("qwen", NAMES)) == 3


def test_squeezed_names_have_letters_and_digits_alone():
    assert squeeze("GPT-oss_20B ") == "gptoss20b"
