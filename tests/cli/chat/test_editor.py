"""The line that a user types in a chat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from launcher.cli.chat.editor import make_editor
from launcher.cli.chat.slash import COMMANDS


def test_lines_pastes_and_keys_and_what_was_typed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    history = tmp_path / "chat_history"
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        read = make_editor(history, COMMANDS)
        keys.send_text("first\r")
        assert read() == "first"
        keys.send_text("\x1b[200~two\nlines\x1b[201~\r")  # a paste, as terminals mark it
        assert read() == "two\nlines"
        keys.send_text("a\x1b\rb\r")  # Alt-Enter
        assert read() == "a\nb"
        keys.send_text("\x1b[A\r")  # up
        assert read() == "a\nb"
        keys.send_text("\x04")
        with pytest.raises(EOFError):
            read()
        keys.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            read()
    assert "first" in history.read_text(encoding="utf-8")
