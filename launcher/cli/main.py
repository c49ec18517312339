"""The command `launcher`: parse, call one function, render, exit code.

What is heavy is imported inside the commands, so that `--help` stays quick.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from launcher import __version__
from launcher.cli import checking, engines, looking, serving, storing, upkeep
from launcher.cli.output import Output
from launcher.errors import Interrupted, LauncherError, TryAgain, UsageError

TAKES_ENGINE_FLAGS = frozenset({"check", "plan", "up", "run", "serve"})

app = typer.Typer(
    name="launcher",
    help="A private OpenAI-compatible endpoint for the best quantised model this machine can hold.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
looking.register(app)
checking.register(app)
storing.register(app)
serving.register(app)
upkeep.register(app)
engines.register(app)


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
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; every foreseen error ends here as a sentence, a hint and an exit code.

    Everything after `--` is llama-server's: typer never sees it, commands find it in `ctx.obj`.
    """
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, engine_flags = arguments[:at], tuple(arguments[at + 1 :])
    try:
        code = app(own, standalone_mode=False, prog_name="launcher", obj=engine_flags)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`launcher logs | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(own, Interrupted("interrupted"))
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets a sentence
        return _fail(own, _explained(error, own))
    return code if isinstance(code, int) else 0


def _fail(arguments: list[str], error: LauncherError) -> int:
    Output(as_json="--json" in arguments).error(error)
    return error.exit_code


def _explained(error: Exception, arguments: list[str]) -> LauncherError:
    match error:
        case LauncherError():
            return error
        case TyperException():
            command = f"{arguments[0]} " if arguments and not arguments[0].startswith("-") else ""
            return UsageError(error.format_message(), hint=f"launcher {command}--help")
        case OSError():
            return _disk_error(error)
        case _:
            return _internal_error(error)


def _disk_error(error: OSError) -> LauncherError:
    """A full disk or a folder that cannot be written, wherever it struck."""
    where = f" on {error.filename}" if error.filename else ""
    hint = (
        "free some space and run the same command again"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else None
    )
    return TryAgain(f"{error.strerror or error}{where}", hint=hint)


def _internal_error(error: Exception) -> LauncherError:
    """A fault of ours: the traceback goes to a file, 0600, because it can hold paths and prompts."""
    from launcher.settings import read_settings

    report = read_settings().state_dir / "crash.txt"
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123  0600 from the start
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return LauncherError(f"internal error: {type(error).__name__}: {error}")
    return LauncherError(
        f"internal error: {type(error).__name__}: {error}", hint=f"please report it with {report}"
    )
