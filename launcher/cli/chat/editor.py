"""Read what a user types: with history, several lines in one paste, and a line editor's keys."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_MOST_HISTORY_BYTES = 4 << 20


def make_editor(history: Path, commands: tuple[str, ...]) -> Callable[[], str]:
    """Return a function that reads one entry. It raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in {None, "", "dumb"}:
        return lambda: input("> ")
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    kept: History = FileHistory(str(history)) if _is_private(history) else InMemoryHistory()
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:  # Alt-Enter: a new line; Enter alone sends
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        history=kept,
        key_bindings=keys,
        completer=WordCompleter(list(commands), sentence=True),
        complete_while_typing=False,
        enable_history_search=True,
    )
    # Ctrl-C is a key here. A handler of the signal would fail where one comes as an entry ends.
    return lambda: session.prompt("> ", prompt_continuation="  ", handle_sigint=False)


def _is_private(history: Path) -> bool:
    """Make the history's file, which only its owner may read; False where that cannot be."""
    with suppress(OSError):
        history.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            history, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return False
            if found.st_size > _MOST_HISTORY_BYTES:
                os.truncate(descriptor, 0)
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        return True
    return False
