"""Profiles, machines and patterns that others wrote: small, and read in no time."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from launcher.errors import BadGguf, UsageError
from launcher.gguf.ggml import GgmlType
from launcher.gguf.synthesis import TensorFamily, TypeRule, assign_types
from launcher.models.profiles.folders import read_model_profiles
from launcher.plan.expert_pattern import EXPERTS, expert_pattern
from launcher.plan.modes import TensorOverride
from launcher.plan.overrides import first_match
from launcher.system.foreign_patterns import compile_foreign
from launcher.system.small_files import MAX_TEXT_BYTES, read_small_text


def test_only_a_regular_file_of_a_megabyte_is_read(tmp_path: Path) -> None:
    small, large, pipe = tmp_path / "small", tmp_path / "large", tmp_path / "pipe"
    small.write_text("é\r\n", encoding="utf-8", newline="")
    large.touch()
    os.truncate(large, 1 << 40)
    os.mkfifo(pipe)
    assert read_small_text(small) == "é\n"
    for path, words in (
        (large, f"more than {MAX_TEXT_BYTES} bytes"),
        (pipe, "no regular"),
        (tmp_path, "no regular"),
    ):
        with pytest.raises(OSError, match=words):
            read_small_text(path)
    with pytest.raises(OSError, match="no regular"):
        read_small_text(Path("/dev/zero"), pipes=True)


def test_a_profile_that_is_a_pipe_or_endless_is_a_broken_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "large.toml").touch()
    os.truncate(tmp_path / "large.toml", 1 << 40)
    profiles = read_model_profiles([tmp_path])
    assert [broken.name for broken in profiles.broken] == ["large", "pipe"]


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a|aa)+$",
        "((a)|b){2,}c",
        "(.*)*x",
        "(?:x+x+)+y",
        "a*" * 7 + "b",
        "(?:a{0,9}){9}",
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        compile_foreign(pattern)
    with pytest.raises(UsageError, match="is not a regular expression"):
        first_match([TensorOverride(pattern=pattern, where="CUDA0")])


@pytest.mark.parametrize(
    "pattern",
    [
        EXPERTS,
        expert_pattern(range(1, 500, 2), [(3, ("up", "down"))]),
        r"blk\.(?:[0-9]|1[0-9])\.ffn_.*_exps\.",
        r"blk\.[0-9]+\.attn_[a-z]*",
        r"[+*(|]+x",
        r"[]+]*\(\+\)*",
        r"(up|down)_exps",
    ],
)
def test_patterns_that_people_write_are_taken(pattern: str) -> None:
    assert compile_foreign(pattern).pattern == pattern


def test_what_is_taken_ends_soon() -> None:
    compiled, began = compile_foreign(".*a.*a.*a.*b"), time.monotonic()
    for _ in range(100):
        assert compiled.search("a" * 63) is None
    assert time.monotonic() - began < 20


def test_no_pattern_is_compiled_without_an_end() -> None:
    for pattern in ("a" * 20_000, "(" * 5000, "a{99999999999999}", "[", "(?P<x", "\\"):
        with pytest.raises(re.error):
            compile_foreign(pattern)


def test_a_recipe_makes_no_more_tensors_or_tries_than_a_header_has() -> None:
    families = [TensorFamily(name=f"blk.{{}}.t{index}", shape=(32,), last=511) for index in range(200)]
    rule = TypeRule(match="t", types=(GgmlType.F32,))
    with pytest.raises(BadGguf, match="more than the 65536 tensors"):
        assign_types(families, [rule])
    with pytest.raises(BadGguf, match="this recipe has 65 rules"):
        assign_types(families, [rule] * 65)
