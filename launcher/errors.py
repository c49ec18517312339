"""The one exception tree. Only `cli` turns these into text and exit codes.

LauncherError        1  a fault of ours
├── UsageError       2  what was typed, or a file that was named, cannot be used
│   └── BadGguf      2  bytes that are not a GGUF file llama.cpp would load
├── DoesNotFit       3  the machine is too small for what was asked
├── NotFound         4  no such model, quant, file, engine or deployment
│   └── NotAllowed   4  it is there, and access was refused
├── EngineFailed     5  llama-server, or its build, ended badly
├── TryAgain         6  network or disk: the same command may work later
│   └── HashMismatch 6  bytes that are not what they should be
└── Interrupted    130  Ctrl-C
"""

from __future__ import annotations

from typing import ClassVar


class LauncherError(Exception):
    """One sentence that names the thing, the value and the limit; `hint` is the next command to type.

    `code` is the name programs match on (`--json`), `retryable` says whether the same command can
    succeed later without a change.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LauncherError):
    exit_code = 2
    code = "usage"


class BadGguf(UsageError):
    code = "bad_gguf"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "fetch the file again, or look for another one of this model")


class DoesNotFit(LauncherError):
    exit_code = 3
    code = "does_not_fit"


class NotFound(LauncherError):
    exit_code = 4
    code = "not_found"


class NotAllowed(NotFound):
    code = "not_allowed"


class EngineFailed(LauncherError):
    exit_code = 5
    code = "engine_failed"


class TryAgain(LauncherError):
    exit_code = 6
    code = "try_again"
    retryable = True


class HashMismatch(TryAgain):
    """Bytes are not what was pinned, or what the Hub vouches for. Never used."""

    code = "hash_mismatch"


class Interrupted(LauncherError):
    exit_code = 130
    code = "interrupted"
    retryable = True
