"""Every hint has a command that works when typed: those in the source, and those made from what was typed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_group

import launcher
from launcher.cli.complete_hint import complete_hint
from launcher.cli.main import app
from tests.cli.hints import fault_of

PACKAGE = Path(launcher.__file__).parent
PARAMS = get_group(app).commands["plan"].params


def complete(hint: str, *typed: str) -> str:
    return complete_hint(hint, list(typed), "launcher plan", PARAMS)


@pytest.mark.parametrize(
    ("hint", "typed", "completed"),
    [
        ("launcher ps", "plan x", "launcher ps"),
        ("launcher profiles show qwen3-8b", "plan -c 8k qwen8", "launcher plan -c 8k qwen3-8b"),
        ("launcher profiles show qwen3-8b", "plan", "launcher profiles show qwen3-8b"),
        ("ls -l /x", "plan x", "ls -l /x"),
        ("launcher plan REF --lock FILE", "plan -c 8k a/b:Q4 -- -ub 64", "launcher plan a/b:Q4 --lock FILE"),
        ("launcher plan REF --lock FILE", "plan --locked", "launcher plan REF --lock FILE"),
        ("--gpu 3090:2", "plan x --gpu 3090x2 --ram 32G", "launcher plan x --ram 32G --gpu 3090:2"),
        ("--gpu 3090:2", "plan x --gpu=3090x2", "launcher plan x --gpu 3090:2"),
        ("-c 4096", "plan x --ctx-size 999 -- -ub 64", "launcher plan x -c 4096 -- -ub 64"),
        ("-ctv f16", "plan x -- -fa off", "launcher plan x -ctv f16 -- -fa off"),
        ("-hfd USER/REPO", "plan x", "launcher plan x -- -hfd USER/REPO"),
        ("-y", "plan x", "launcher plan x -- -y"),  # no option of `plan`
        ("leave --offline out", "plan --offline x", "launcher plan x"),
        ("leave --gpus out", "plan x --gpus 0,1 -c 8k", "launcher plan x -c 8k"),
        ("leave -lv out", "plan x -- -lv 4 -ub 64", "launcher plan x -- -ub 64"),
        (
            "free some space and run the same command again",
            "plan x",
            "free some space, then: launcher plan x",
        ),
        ("run it again later", "plan x", "launcher plan x"),
        ("mend /x.toml", "plan 'a b'", "mend /x.toml, then: launcher plan 'a b'"),
        ("leave one of them out", "plan x", "leave one of them out: launcher plan --help"),
        ("it's damaged", "plan x", "it's damaged: launcher plan --help"),
    ],
)
def test_a_hint_without_a_command_gets_one(hint: str, typed: str, completed: str) -> None:
    assert complete(hint, *shlex.split(typed)) == completed


@pytest.mark.parametrize(
    "secret",
    ["https://me:pass@host/x.gguf", "https://host/x.gguf?token=abc", "--api-key=abc", "-e", "x" * 400],
)
def test_a_line_with_a_secret_or_without_end_is_not_repeated(secret: str) -> None:
    assert complete("run it again", "plan", secret) == "run it again: launcher plan --help"


def literal_hints() -> Iterator[tuple[str, str]]:
    """Yield every hint that is written in the source, with its place; VALUE for what is filled in."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg == "hint":
                        for text in texts_of(keyword.value):
                            yield f"{file.relative_to(PACKAGE)}:{keyword.value.lineno}", text


def texts_of(value: ast.expr) -> list[str]:
    match value:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(part.value if isinstance(part, ast.Constant) else "VALUE" for part in parts)]  # type: ignore[misc]
        case ast.IfExp(body=one, orelse=other):
            return texts_of(one) + texts_of(other)
        case _:
            return []


def test_every_hint_in_the_source_names_commands_and_options_that_exist() -> None:
    hints = list(literal_hints())
    assert len(hints) > 400
    unfilled = re.compile(r"launcher (VALUE|export FORMAT)")  # the command is filled in
    faults = {
        f"{place}: {hint}": fault
        for place, hint in hints
        if not unfilled.search(hint)
        and (fault := fault_of(complete(hint, "plan", "x").replace("…", "x"))) is not None
    }
    assert faults == {}


@pytest.mark.parametrize(
    ("hint", "fault"),
    [
        ("leave it out", "no command"),
        ("launcher bild", "there is no launcher bild"),
        ("launcher engine bild", "there is no launcher engine bild"),
        ("mend it, or launcher plan x --nonsense 1: so", "launcher plan has no --nonsense"),
        ("launcher plan x --ram 64G, or ls /", None),
        ("launcher plan x -- --nonsense", None),  # llama-server's
    ],
)
def test_a_hint_that_cannot_be_typed_is_noticed(hint: str, fault: str | None) -> None:
    assert fault_of(hint) == fault
