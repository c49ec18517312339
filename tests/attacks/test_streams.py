"""A standard stream that is closed or full ends a command quietly, with the right code."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = f"{shlex.quote(sys.executable)} -m launcher"


def sh(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("command", "code"), [("ps", 0), ("ps --json", 0), ("--version", 0), ("plan /no/file.gguf", 4)]
)
def test_closed(command: str, code: int) -> None:
    for redirection in (">&-", "<&- >&-", ">&- 2>&-", "2>&-"):
        done = sh(f"{LAUNCHER} {command} {redirection}")
        assert done.returncode == code, redirection
        assert "internal" not in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["ps", "ps --json", "--version", "profiles list"])
def test_full(command: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = sh(f"{LAUNCHER} {command} >/dev/full")
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert sh(f"{LAUNCHER} plan /no/file.gguf 2>/dev/full").returncode == 4
