"""The command `launcher`: parse, call one function, render, exit code.

What is heavy is imported inside the commands, so that `--help` stays quick.
"""

from __future__ import annotations

import difflib
import errno
import gc
import io
import os
import shlex
import signal
import socket
import sys
import threading
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from launcher import __version__
from launcher.cli import (
    check,
    doctor,
    enable,
    engine,
    inspect,
    ls,
    plan,
    probe,
    profiles,
    ps,
    pull,
    up,
)
from launcher.cli.show.output import Output
from launcher.errors import Interrupted, LauncherError, TryAgain, UsageError

_PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.ENETUNREACH}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETRESET, errno.ENOTCONN, errno.ENOBUFS}
)
"""Errors that may be gone a moment later: a disk's, a network's and a network file system's."""
_SHOWN = 200

TAKES_ENGINE_FLAGS = frozenset({"check", "plan", "pull", "up", "run", "serve"})

_TERMINATED = threading.Event()
"""Somebody else ended this process, not a user at the keyboard."""

app = typer.Typer(
    name="launcher",
    help="A private OpenAI-compatible endpoint for the best quantised model this machine can hold.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
probe.register(app)
inspect.register(app)
plan.register(app)
profiles.register(app)
check.register(app)
pull.register(app)
ls.register(app)
up.register(app)
ps.register(app)
doctor.register(app)
enable.register(app)
engine.register(app)


@app.callback(invoke_without_command=True)
def _global(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"launcher {__version__}\n")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")
        raise typer.Exit
    if ctx.obj and ctx.invoked_subcommand not in TAKES_ENGINE_FLAGS:
        raise UsageError(
            f"`launcher {ctx.invoked_subcommand}` takes no llama-server flags, and `--` was followed by {ctx.obj[0]}",
            hint=f"launcher {ctx.invoked_subcommand} --help",
        )


def main() -> None:
    """Run the command line and exit with its code. SIGTERM and SIGHUP end it as Ctrl-C does: cleaned up."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if (
            number is not None and signal.getsignal(number) is not signal.SIG_IGN
        ):  # nohup ignores it on purpose
            signal.signal(number, _end)
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # file names that are not UTF-8 come out as they are (PEP 383)
        sys.stdout.reconfigure(errors="surrogateescape")
    code = run(sys.argv[1:])
    gc.freeze()  # nothing is left to be found: the interpreter's last collection took 0.07 s of every command
    sys.exit(code)


def _end(_number: int, _frame: object) -> None:
    _TERMINATED.set()
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run one command; every foreseen error ends here as a sentence, a hint and an exit code.

    Everything after `--` is llama-server's: typer never sees it, commands find it in `ctx.obj`.
    """
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, engine_flags = arguments[:at], tuple(arguments[at + 1 :])
    try:
        code = app(own, standalone_mode=False, prog_name="launcher", obj=engine_flags)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # The reader has seen enough (`launcher logs | head`), which typer and rich, where they see it first, make an
        # exit with status 1. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(own, Interrupted("interrupted"))
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets a sentence
        return _fail(own, _explained(error, own))
    if code == Interrupted.exit_code:  # typer has turned the interrupt into this code, without a word
        if _TERMINATED.is_set() and own[:1] == ["serve"]:
            return 0  # systemd and containers end it so; it has ended everything, and nothing failed
        return _fail(own, Interrupted("interrupted"))
    return code if isinstance(code, int) else 0


def _fail(arguments: list[str], error: LauncherError) -> int:
    if error.hint is None and not isinstance(error, Interrupted):
        error.hint = f"launcher {_command(arguments)}--help"
    Output(as_json="--json" in arguments).error(error)
    return error.exit_code


def _command(arguments: list[str]) -> str:
    """The command that was meant: as typed, or the nearest there is; nothing where none is near."""
    word = arguments[0] if arguments else ""
    near = difflib.get_close_matches(word, typer.main.get_group(app).commands, n=1)
    return f"{near[0]} " if near else ""


def _explained(error: Exception, arguments: list[str]) -> LauncherError:
    match error:
        case LauncherError():
            return error
        case TyperException():
            said = error.format_message().replace(": Value error, ", ": ")  # the words of typer's validator
            return UsageError(said, hint=f"launcher {_command(arguments)}--help")
        case OSError():
            return _disk_error(error)
        case _:
            return _internal_error(error)


def _disk_error(error: OSError) -> LauncherError:
    """A full disk, or a file or folder that cannot be used, wherever it struck. What does not pass by itself is not
    worth trying again."""
    where = f" on {error.filename}" if error.filename else ""
    message = f"{error.strerror or error}{where}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TryAgain(message, hint="free some space and run the same command again")
    if error.errno in _PASSING or isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return TryAgain(message, hint="check the disk and the network, then run the same command again")
    if isinstance(error.filename, str | bytes):
        file = os.fsdecode(error.filename)
        file = file if len(file) <= _SHOWN else f"{file[:_SHOWN]}…"
        return UsageError(message, hint=f"look at it with: ls -ld {shlex.quote(file)}")
    return UsageError(message, hint="look at the files and folders this command was given")


def _internal_error(error: Exception) -> LauncherError:
    """A fault of ours: the traceback goes to a file, 0600, because it can hold paths and prompts."""
    from launcher.system.settings import read_settings

    try:
        report = read_settings().state_dir / "crash.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
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
