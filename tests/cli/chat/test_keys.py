"""What is typed while an answer is streamed."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest

from launcher.cli.chat.keys import keys_unseen


def test_a_terminal_echoes_nothing_during_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(terminal)
        with keys_unseen():
            during = termios.tcgetattr(terminal)[3]
        assert not during & termios.ECHO
        assert during & termios.ISIG  # Ctrl-C still interrupts
        assert termios.tcgetattr(terminal) == before
    os.close(master)


def test_without_a_terminal_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with keys_unseen():
        pass
