"""What a person types in the first ten minutes: help, near misses, and hints that work when typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from launcher.cli.grouped_help import SECTIONS
from launcher.cli.main import app
from tests.cli.shell import launcher


def folders_in(tmp_path: Path) -> dict[str, str]:
    home = {f"XDG_{kind}_HOME": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    return {**home, "HF_HOME": str(tmp_path / "hf")}


def type_(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return launcher(*words, timeout_s=120, **folders_in(tmp_path), HF_HUB_OFFLINE="1", COLUMNS="80")


COMMANDS = get_group(app).commands


def test_sections_name_commands_once_and_the_help_has_all(tmp_path):
    named = [name for _, names in SECTIONS for name in names]
    assert len(set(named)) == len(named)
    assert set(named) <= set(COMMANDS)
    shown = re.findall(r"^  ([a-z]+)  ", type_(tmp_path, "--help").stdout, re.MULTILINE)
    assert sorted(shown) == sorted(COMMANDS)


@pytest.mark.parametrize(
    "words",
    [(), *((name,) for name in ("up", "run", "plan", "serve", "engine", "profiles", "keys", "recommend"))],
)
def test_help_by_h_is_whole_at_80_columns(tmp_path, words):
    ran = type_(tmp_path, *words, "-h")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    assert "..." not in re.sub(r"\[[A-Z]+\]\.\.\.", "", ran.stdout)
    assert "[[" not in ran.stdout.partition("\n")[0]
    assert not re.search(r"--[a-z-]+-$", ran.stdout, re.MULTILINE)  # an option that cannot be copied


@pytest.mark.parametrize("group", ["engine", "profiles", "keys"])
def test_a_group_alone_shows_its_commands(tmp_path, group):
    ran = type_(tmp_path, group)
    assert (ran.returncode, "Commands:" in ran.stdout, ran.stderr) == (0, True, "")


@pytest.mark.parametrize(
    ("typed", "said", "hint"),
    [
        ("up smollm2-135m -t 1", "-t is a flag of llama-server's", "launcher up smollm2-135m -- -t 1"),
        ("up smollm2-135m -t 1 -- -ub 64", "-t is a flag", "launcher up smollm2-135m -- -t 1 -ub 64"),
        ("up smollm2-135m -ngl 99", "-ngl is what `launcher up` plans", "launcher up smollm2-135m"),
        ("plan smollm2-135m --gpu 3090x2 --ram 32G", "a number of cards follows a colon", "--gpu 3090:2"),
        ("plan smollm2-135m --gpu 2x3090 --ram 32G", "a number of cards follows a colon", "--gpu 3090:2"),
        ("plan smollm2-135m --gpu 3090 --ram 32", "size '32' has no unit", "32G for GiB"),
        (
            "up smollm2-135m --mode x --dry-run -- -ub 64",
            "has no mode 'x'",
            "launcher up smollm2-135m --dry-run --mode chat -- -ub 64",
        ),
        ("plan smollm2-135m --machine laptop", "no machine is called 'laptop'", "--machine laptop-16g"),
        ("plan llama3", "'llama3' names no profile", "launcher plan llama-3.1-8b"),
        ("plan smollm2-135m --gpu 4900 --ram 8G", "no GPU is known by the name '4900'", "4090"),
        ("stop m/my-model.gguf", "name 'm/my-model.gguf' is not made of", "launcher ps"),
        ("modls", "Did you mean 'models'?", "launcher models --help"),
        ("models qwenn3-8b", "no profile is called anything like", "launcher models qwen3-8b"),
        ("recommend --for chess", "--for 'chess' is none of", "launcher recommend --for coding"),
        ("profiles show qwen3.8", "no profile is called 'qwen3.8'", "launcher profiles show qwen3.8-27b"),
    ],
)
def test_a_near_miss_is_answered_by_the_nearest(tmp_path, typed, said, hint):
    ran = type_(tmp_path, *shlex.split(typed))
    assert ran.returncode in {2, 4}
    assert said in ran.stderr
    assert hint in ran.stderr.partition("hint:")[2]


HARMLESS = re.compile(r"launcher (models|recommend|profiles|plan|[a-z]+ --help)\b")


@pytest.mark.parametrize(
    "typed",
    [
        "modls",
        "models qwenn3-8b",
        "recommend --for chess",
        "profiles show qwen3.8",
        "up --nonsense",
        "profiles shw",
        "inspect",
    ],
)
def test_a_hint_that_is_a_command_works_when_typed(tmp_path, typed):
    ran = type_(tmp_path, *shlex.split(typed))
    hint = ran.stderr.partition("hint: ")[2].strip()
    assert HARMLESS.match(hint), hint
    again = type_(tmp_path, *shlex.split(hint)[1:])
    assert again.returncode == 0, again.stderr


def test_recommend_needs_no_network_and_no_file(tmp_path):
    ran = type_(tmp_path, "recommend", "--gpu", "3090", "--ram", "64G")
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"^ (\S+:\S+) ", ran.stdout, re.MULTILINE)
    assert len(rows) == 10
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    planned = type_(tmp_path, "plan", rows[0], "--gpu", "3090", "--ram", "64G", "--json")
    assert planned.returncode in {0, 5}, planned.stderr  # 5: here is no engine that could simulate


@pytest.mark.parametrize("command", ["up", "run", "plan"])
def test_common_options_come_first_and_none_is_lost(tmp_path, command):
    shown = type_(tmp_path, command, "-h").stdout
    common, _, advanced = shown.partition("\nAdvanced:")
    assert "--ctx-size" in common
    assert "--numa" in advanced
    spelled = {
        spelling for param in COMMANDS[command].params for spelling in param.opts if spelling[:2] == "--"
    }
    assert all(spelling in shown for spelling in spelled)


def test_bare_launcher_on_a_terminal_recommends_and_in_a_pipe_helps(tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {**os.environ, **folders_in(tmp_path), "TERM": "dumb", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher"], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    assert b"launcher recommend" in seen
    assert b"for chat on this machine" in seen or b"fits this machine" in seen
    assert type_(tmp_path).stdout.startswith("Usage: launcher")


@pytest.mark.parametrize(
    "typed",
    [("search", "qwen3"), ("engine", "update"), ("plan", "user/repo:Q4_K_M", "--gpu", "3090", "--ram", "8G")],
)
def test_the_number_of_an_error_is_not_in_its_sentence(tmp_path, typed):
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:1", "LAUNCHER_RELEASES": "http://127.0.0.1:1"}
    ran = launcher(*typed, **folders_in(tmp_path), **nobody)
    assert ran.returncode == 6
    assert "Connection refused" in ran.stderr
    assert "Errno" not in ran.stderr
