"""The user's own prompts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.commands.tune.prompts import random_prompts, read_prompts
from launcher.errors import UsageError


def write(file: Path, *lines: object) -> Path:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return file


def test_every_third_prompt_is_held_out(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "c"}], "max_tokens": 7}
    found = read_prompts(write(tmp_path / "t.jsonl", {"prompt": "a"}, {"prompt": "b"}, chat), 64)
    assert [prompt.text for prompt in found.chosen_by] == ["a", "b"]
    assert [(prompt.text, prompt.reply) for prompt in found.held_out] == [("user: c", 7)]


@pytest.mark.parametrize(
    "line", [{"prompt": ""}, {"prompt": 1}, {"messages": "x"}, {}, [], {"prompt": "a", "max_tokens": 0}]
)
def test_a_bad_line_is_named(tmp_path: Path, line: object) -> None:
    file = write(tmp_path / "t.jsonl", {"prompt": "a"}, line, {"prompt": "b"})
    with pytest.raises(UsageError, match=r"line 2 of .*t\.jsonl"):
        read_prompts(file, 64)


def test_too_few_prompts_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 are the least"):
        read_prompts(write(tmp_path / "t.jsonl", {"prompt": "a"}, {"prompt": "b"}), 64)
    with pytest.raises(UsageError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl", 64)


def test_tokens_at_random_are_the_same_every_time_and_differ_between_the_parts() -> None:
    found = random_prompts(1000, 16, 4)
    assert found == random_prompts(1000, 16, 4)
    assert found.chosen_by != found.held_out
