"""The command line as a user meets it: help, version, mistakes, and errors as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import __version__
from tests.cli.shell import launcher
from tests.make_gguf import make_gguf


def test_alone_it_prints_its_help() -> None:
    done = launcher()
    assert (done.returncode, done.stderr) == (0, "")
    assert "up" in done.stdout


def test_version() -> None:
    assert launcher("--version").stdout == f"launcher {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("plan",),
        ("plan", "x", "--no-such-flag"),
        ("plan", "x", "--kv", "zz"),
        ("up", "x", "--port", "99999"),
    ],
)
def test_a_mistyped_command_is_two_lines_and_exit_2(arguments: tuple[str, ...]) -> None:
    done = launcher(*arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2)
    assert lines[0].startswith("error: ")
    assert "Value error" not in lines[0]
    assert lines[1].startswith("hint: launcher")


def test_a_mistake_under_json_is_one_document() -> None:
    done = launcher("plan", "./no-such-model.gguf", "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 4
    assert sorted(error) == ["code", "hint", "message", "retryable"]
    assert error["code"] == "not_found"


def test_flags_for_the_engine_are_refused_where_none_runs() -> None:
    done = launcher("ps", "--", "--flash-attn", "on")
    assert done.returncode == 2
    assert "takes no llama-server flags" in done.stderr


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("profiles show smollm2-135m --json | head -c 1", "{"),
        ("profiles show smollm2-135m | head -c 1", "p"),
        ("ps | true", ""),
        ("--help | true", ""),
    ],
)
def test_a_closed_pipe_is_not_an_error(command: str, kept: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m launcher {command}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, kept, "")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (("pln", "x"), "launcher plan --help"),
        (("zzzz",), "launcher --help"),
        (("engine", "bild"), "launcher engine --help"),
        (("engine", "compare"), "launcher engine compare --help"),
        (("keys", "add", "Bad Name"), "launcher keys add bad-name"),
        (("--lora",), "launcher --help"),
        (("ps", "--lora", "x"), "launcher ps --help"),  # takes no flags of llama-server's
        (("stop", "a", "--all"), "launcher stop --all"),
    ],
)
def test_a_hint_is_a_command_that_exists(typed: tuple[str, ...], hint: str) -> None:
    done = launcher(*typed)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"hint: {hint}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "~nosuch/x"),
        ("plan", "smollm2-135m", "--engine", "~nosuch/x"),
        ("up", "smollm2-135m", "--api-key-file", "~nosuch/x"),
        ("plan", "smollm2-135m", "-c", "9" * 400),
        ("plan", "smollm2-135m", "--gpu", "3090", "--ram", "9" * 400),
        ("plan", f"./{'a' * 300}.gguf"),
        ("plan", f"{'a' * 300}.gguf"),
        ("plan", "smollm2-135m", "--machine", "a" * 300),
    ],
)
def test_what_cannot_be_used_is_the_users_to_mend(arguments: tuple[str, ...]) -> None:
    done = launcher(*arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2), done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize(
    "config", ['engine = "~nosuch/x"', f"engine = {'9' * 5000}", f"engine = {'[' * 5000}", "engine = '\xff'"]
)
def test_a_config_file_that_cannot_be_used(clean_environment: Path, config: str) -> None:
    file = clean_environment / "launcher/config/config.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes(config.encode("latin-1"))
    done = launcher("profiles", "list")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 2), done.stderr
    for command, code, said in (("ps", 0, "nothing runs here"), ("stop", 4, ""), ("logs", 4, "")):
        done = launcher(command)
        assert (done.returncode, done.stdout.startswith(said)) == (code, True), done.stderr
        assert done.stderr.startswith("warning: ")
    assert "config: " in launcher("doctor").stdout


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "llama", hollow=True)
    odd = os.fsencode(tmp_path) + b"/m\xff.gguf"
    os.rename(path, odd)  # noqa: PTH104  bytes
    environment = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    for words in (["inspect"], ["inspect", "--json"], ["plan"], ["plan", "--json"], ["pull"]):
        command = [sys.executable, "-m", "launcher", words[0], str(tmp_path), *words[1:]]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert done.stdout == odd + b"\n"


def test_choices_are_named_in_one_line() -> None:
    error, hint = launcher("connect").stderr.splitlines()
    assert "open-webui" in error
    assert "\\" not in error
    assert hint == "hint: launcher connect --help"


def test_no_cell_of_the_known_models_is_cut_at_80_columns() -> None:
    done = launcher("models", "coder")
    assert done.returncode == 0
    rows = [row.split() for row in done.stdout.splitlines() if row.startswith(" qwen3-coder-30b")]
    assert [row[0] for row in rows] == ["qwen3-coder-30b"]
    assert "256K" in rows[0]


@pytest.mark.parametrize(
    ("typed", "late"),
    [
        (["--help"], ("rich", "statistics", "platformdirs", "pydantic", "launcher.machine.gpus")),
        (["--version"], ("launcher.cli.plan", "launcher.cli.options.bundles", "launcher.cli.show.output")),
        (["ps", "--help"], ("launcher.cli.plan", "launcher.cli.bench", "launcher.system.settings")),
    ],
)
def test_what_is_not_typed_is_not_imported(typed: list[str], late: tuple[str, ...]) -> None:
    code = f"import sys, launcher.cli.main as main; main.execute({typed}); print(*set({late}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
