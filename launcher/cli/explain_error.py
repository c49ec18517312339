"""Turn any exception that ends a command into an error with a sentence, a hint and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import traceback

from typer.exceptions import TyperException

from launcher.errors import LauncherError, TryAgain, UsageError

# errors that may be gone a moment later: of a disk, of a network, of a network file system
_TRANSIENT = frozenset(
    {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.ENETUNREACH}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETRESET, errno.ENOTCONN, errno.ENOBUFS}
)
# The plan's own: `engine.flags.argv` refuses them after `--`, too.
_PLANNED = frozenset({"-ngl", "-ts", "-sm", "-ncmoe", "-cmoe", "-fit", "-m", "-dev"})
_PLANNED_INSTEAD = "what goes to which device, within --gpus, --max-ram and --reserve"
_LONGEST_SHOWN = 200  # characters of a file's name


def explain_error(error: Exception) -> LauncherError:
    """Return the error to print. An internal error is written to a crash report first."""
    match error:
        case LauncherError():
            return error
        case TyperException():
            # typer lists choices over several lines
            return UsageError(" ".join(error.format_message().replace(": Value error, ", ": ").split()))
        case OSError():
            return _system_error(error)
        case _:
            return _internal_error(error)


def misplaced_flag(words: list[str], after: list[str], error: Exception) -> UsageError | None:
    """Return the error for a flag of llama-server's that stands before `--`; None for any other mistake.

    `words` stand before `--`, `after` behind it.
    """
    if not isinstance(error, TyperException) or not error.format_message().startswith("No such option"):
        return None
    from launcher.engine.flags.user_flags import SPELLINGS, is_flag

    known = {spelling: spellings for spellings in SPELLINGS for spelling in spellings}
    at = next((index for index, word in enumerate(words) if word in known), None)
    if at is None:
        return None
    flag, command = words[at], words[0]
    values = [word for word in words[at + 1 : at + 2] if not is_flag(word)]
    before = [word for index, word in enumerate(words) if not at <= index <= at + len(values)]
    if _PLANNED & set(known[flag]):
        return UsageError(
            f"{flag} is what `launcher {command}` plans: {_PLANNED_INSTEAD}",
            hint=shlex.join(["launcher", *before, *(["--", *after] if after else [])]),
        )
    line = shlex.join(["launcher", *before, "--", flag, *values, *after])
    return UsageError(f"{flag} is a flag of llama-server's, and those stand after --", hint=line)


def _system_error(error: OSError) -> LauncherError:
    """Explain a full disk, a network that fails, or a file that cannot be used."""
    where = f" on {error.filename}" if error.filename else ""
    message = f"{error.strerror or error}{where}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TryAgain(message, hint="free some space and run the same command again")
    if error.errno in _TRANSIENT or isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return TryAgain(message, hint="check the disk and the network, then run the same command again")
    # anything else does not pass by itself: nothing to try again
    if isinstance(error.filename, str | bytes):
        file = os.fsdecode(error.filename)
        file = file if len(file) <= _LONGEST_SHOWN else f"{file[:_LONGEST_SHOWN]}…"
        return UsageError(message, hint=f"look at it with: ls -ld {shlex.quote(file)}")
    return UsageError(message, hint="look at the files and folders this command was given")


def _internal_error(error: Exception) -> LauncherError:
    """Write the traceback to `crash.txt` in the state folder, and name the file."""
    from launcher.system.settings import read_settings

    try:
        report = read_settings().state_dir / "crash.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        # readable by the user alone: a traceback can hold paths and prompts
        descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except (OSError, LauncherError):  # a report is a help, and must not hide what it is about
        return LauncherError(
            f"internal error: {type(error).__name__}: {error}", hint="please report it with what was typed"
        )
    return LauncherError(
        f"internal error: {type(error).__name__}: {error}", hint=f"please report it with {report}"
    )
