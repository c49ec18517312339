"""Define the launcher's errors. Only `cli` turns them into text and exit codes."""

# exit codes:
#
# LauncherError        1  an error of the launcher itself
# ├── UsageError       2  an argument, or a file that was named, cannot be used
# │   └── BadGguf      2  not a GGUF file that llama.cpp would load
# ├── DoesNotFit       3  the machine is too small for the request
# ├── NotFound         4  no such model, quant, file, engine or deployment
# │   └── NotAllowed   4  it exists, and access was refused
# ├── EngineFailed     5  llama-server, or its build, failed
# ├── TryAgain         6  network or disk: the same command may work later
# │   └── HashMismatch 6  a download does not have the expected sha256
# └── Interrupted    130  Ctrl-C

from __future__ import annotations

from typing import ClassVar


class LauncherError(Exception):
    """An error that the user reads.

    The message is one sentence that names the thing, the value and the limit; the hint is the next command
    to type.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal"  # what programs match on (`--json`)
    retryable: ClassVar[bool] = False  # the same command may succeed later

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
    """The sha256 of a download is not the expected one. The bytes are discarded."""

    code = "hash_mismatch"


class Interrupted(LauncherError):
    exit_code = 130
    code = "interrupted"
    retryable = True
