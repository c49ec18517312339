"""The command line as a user meets it: help, version, mistakes, and errors as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import __version__
from launcher.cli import main


def launcher(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_alone_it_prints_its_help() -> None:
    done = launcher()
    assert (done.returncode, done.stderr) == (0, "")
    assert "up" in done.stdout


def test_version() -> None:
    assert launcher("--version").stdout == f"launcher {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("plan",), ("plan", "x", "--no-such-flag"), ("up", "x", "--port", "99999")]
)
def test_a_mistyped_command_is_two_lines_and_exit_2(arguments: tuple[str, ...]) -> None:
    done = launcher(*arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2)
    assert lines[0].startswith("error: ")
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


def test_a_closed_pipe_is_not_an_error() -> None:
    command = f"{sys.executable} -m launcher profiles show smollm2-135m --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_a_fault_of_ours_is_a_sentence_and_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(main, "app", broken)
    assert main.run(["ps"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: internal error: ZeroDivisionError: division by zero"
    report = Path(hint.rpartition(" ")[2])
    assert "ZeroDivisionError" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0
