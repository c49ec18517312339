"""Programs run to their end: lines, status, and nobody left when the waiting is broken off."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from launcher.system.run_program import run_lines


def test_lines_of_both_streams_and_the_status() -> None:
    lines: list[str] = []
    status = run_lines(["sh", "-c", "echo one; echo two >&2; exit 3"], on_line=lines.append)
    assert (status, sorted(lines)) == (3, ["one", "two"])


def test_a_signal_is_a_negative_status() -> None:
    assert run_lines(["sh", "-c", "kill -9 $$"], on_line=print) == -9


def test_the_child_has_no_stdin_and_a_session_of_its_own() -> None:
    lines: list[str] = []
    script = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    run_lines([sys.executable, "-c", script], on_line=lines.append)
    assert lines == ["True ''"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_breaking_off_ends_children_and_grandchildren(tmp_path: Path, error: type[BaseException]) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keep = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def break_off(_: str) -> None:
        raise error

    # The grandchild ignores SIGINT and holds the FIFO open for writing until it is killed.
    script = f"(trap '' INT; exec 3>'{fifo}'; echo ready; sleep 600) & wait"
    with pytest.raises(error):
        run_lines(["sh", "-c", script], on_line=break_off)
    os.set_blocking(keep, True)
    assert os.read(keep, 1) == b""  # end of file: no writer is left
    os.close(keep)


def test_bytes_that_are_no_text_do_not_end_it() -> None:
    lines: list[str] = []
    assert run_lines(["printf", r"a\377b\n"], on_line=lines.append) == 0
    assert lines == ["a\N{REPLACEMENT CHARACTER}b"]


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        run_lines(["/no/such/program"], on_line=print)
