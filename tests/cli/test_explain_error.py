"""Exceptions that end a command: a sentence, a hint, an exit code, and a report of those that are faults."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from launcher.cli import main


def test_a_fault_of_ours_is_a_sentence_and_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(main, "app", broken)
    assert main.execute(["ps"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: internal error: ZeroDivisionError: division by zero"
    report = Path(hint.rpartition(" ")[2])
    assert "ZeroDivisionError" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0


def test_a_fault_of_ours_before_there_are_settings(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = clean_environment / "launcher/config/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(main, "app", broken)
    assert main.execute(["ps"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: internal error: ZeroDivisionError: division by zero"
    assert hint == "hint: please report it with what was typed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 6),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 6),
        (OSError(errno.EIO, "Input/output error", "/x"), 6),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), 6),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 6),
        (TimeoutError("timed out"), 6),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2),
        (OSError(errno.EBADF, "Bad file descriptor", 7), 2),
        (OSError("something"), 2),
    ],
)
def test_only_what_passes_is_worth_trying_again(
    error: OSError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main, "app", broken)
    assert main.execute(["ps", "--json"]) == code
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["retryable"] is (code == 6)
    assert said["hint"]
