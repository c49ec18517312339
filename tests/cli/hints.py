"""Hold printed hints against the commands there are: each has to name one that can be typed."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_group

from launcher.cli.main import app

COMMANDS: dict[str, Any] = get_group(app).commands
PROGRAMS = re.compile(
    r"(^|[ `/])(python[\d.]*|ls|df|cat|mv|rm|chmod|ulimit|unset|ssh|openssl|pip|journalctl|ollama|sudo|apt-get"
    r"|dnf|pacman|zypper|apk|brew|xcode-select)( |$)"
)
# What no command mends, and why.
EXCEPTIONS = (
    re.compile(r"please report it with "),  # a fault of launcher's own: the report is the next step
)
_TYPED = re.compile(r"(?<![\w./-])launcher((?: (?:[^\s,;`]+(?:: )?))*)")


def fault_of(hint: str) -> str | None:
    """Return what is wrong with a hint: no command, or one that does not exist or lacks an option."""
    if any(each.match(hint) for each in EXCEPTIONS):
        return None
    typed = [match[1].split() for match in _TYPED.finditer(hint)]
    if not typed and not PROGRAMS.search(hint):
        return "no command"
    return next((fault for words in typed if (fault := _fault(words)) is not None), None)


def _fault(words: list[str]) -> str | None:
    if not words or words[0] in {"--help", "--version"}:
        return None
    command = COMMANDS.get(words[0].rstrip(".:"))
    if command is None:
        return f"there is no launcher {words[0]}"
    inner = getattr(command, "commands", {})
    if inner and len(words) > 1 and words[1].isalpha():
        command = inner.get(words[1])
        if command is None:
            return f"there is no launcher {words[0]} {words[1]}"
    known = {"--help", "-h"} | {spelling for param in command.params for spelling in param.opts}
    own = words[: words.index("--")] if "--" in words else words
    unknown = [
        word
        for word in own
        if re.match(r"--?[A-Za-z]", word) and word.partition("=")[0].rstrip(":.)") not in known
    ]
    return f"launcher {words[0]} has no {unknown[0]}" if unknown else None


def check_hints(stderr: str) -> None:
    """Raise AssertionError for a hint on stderr that names no command that can be typed."""
    for line in stderr.splitlines():
        if line.startswith("hint: "):
            fault = fault_of(line.removeprefix("hint: "))
            assert fault is None, f"{fault}: {line}"
