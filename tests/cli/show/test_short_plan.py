"""A plan at a glance: one screen, whatever the terminal, and a command that works."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.shell import launcher

RIGS = {
    "one card": ("qwen3-30b-a3b", "--gpu", "3090", "--ram", "64G"),
    "eight cards": ("kimi-k2.5", "--machine", "8xh200-141g"),
    "one memory": ("kimi-k2.5", "--machine", "m3ultra-512g"),
    "no card": ("qwen3-8b", "--machine", "laptop-16g"),
}


def plan(*words: str, **variables: str) -> list[str]:
    done = launcher("plan", words[0], "--offline", *words[1:], **{"COLUMNS": "80", **variables})
    assert done.returncode in {0, 5}, done.stderr  # 5: here is no engine that could simulate
    return done.stdout.splitlines()


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS)
def test_a_plan_is_10_to_15_lines_of_80_columns_without_regular_expressions(rig: tuple[str, ...]) -> None:
    lines = plan(*rig)
    assert 10 <= len(lines) <= 15
    assert max(map(len, lines)) <= 80
    assert "exps=" not in "\n".join(lines)
    labels = [line.split()[0] for line in lines if line[:1].strip()]
    assert labels[:3] == ["fits", "model", "speed"]
    assert {"why", "start", "more"} <= set(labels)


def test_cards_that_are_filled_alike_share_a_bar() -> None:
    text = "\n".join(plan(*RIGS["eight cards"]))
    assert "CUDA0-4 (5 x H200)" in text
    assert "of 139.4 GiB each" in text


def test_one_memory_is_one_bar_no_larger_than_the_machine() -> None:
    (bar,) = [line for line in plan(*RIGS["one memory"]) if " GiB" in line and "one memory" in line]
    used, budget = bar.split()[-4], bar.split()[-2]
    assert float(used) <= float(budget) < 512


def test_bars_are_ascii_where_the_terminal_is_not_unicode() -> None:
    lines = plan(*RIGS["one card"], PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert all(line.isascii() for line in lines)
    assert "# weights  = cache  + compute  - other  . free" in "\n".join(lines)


def test_the_command_repeats_what_was_asked_for() -> None:
    words = ("-c", "4096", "--kv", "q8_0", "--max-ram", "2G", "--prefer", "speed")
    done = launcher(
        "plan", "qwen3-0.6b", *words, "--offline", "--gpu", "3090", "--ram", "8G", "--", "-t", "2"
    )
    (start,) = [line for line in done.stdout.splitlines() if line.startswith("start")]
    typed = shlex.split(start.removeprefix("start").removesuffix("(there)"))
    assert typed[:3] == ["launcher", "up", "qwen3-0.6b"]
    assert typed[-3:] == ["--", "-t", "2"]
    assert all(word in typed for word in (*words, "--offline"))
    assert "--gpu" not in typed


def test_a_model_that_can_see_says_so_and_its_yes_is_no_plain_one_where_the_projector_is_unknown() -> None:
    vision = ("qwen3-vl-4b", "--gpu", "3090", "--ram", "64G")
    lines = plan(*vision)
    assert [line for line in lines if line.startswith("images")] == [
        "images    none: mmproj-F16.gguf could not be looked at"
    ]
    assert lines[0].startswith("fits")
    assert "without images" in " ".join(lines[:2])
    assert "images" not in "\n".join(plan(*vision, "--no-vision"))


def test_what_a_terminal_has_no_sign_for_is_no_crash() -> None:
    lines = plan(*RIGS["one card"], "--explain", PYTHONIOENCODING="ascii")
    assert "no mark: exact" in "\n".join(lines)
