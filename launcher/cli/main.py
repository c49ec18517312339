"""The command `launcher`: parse, call one function, print, exit code."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
from typing import Annotated, Any

import typer

from launcher import __version__
from launcher.cli.lazy_commands import TAKES_ENGINE_FLAGS, Launcher, LazyCommands, show_help
from launcher.cli.options.configured import configured_defaults
from launcher.cli.streams import is_flushed, open_closed_streams, silence_stdout, write_anyhow
from launcher.errors import Interrupted, LauncherError, TryAgain, UsageError
from launcher.system.umask import tighten_umask

# set when another process has ended this one, and not a user at the keyboard
_TERMINATED = threading.Event()


app = typer.Typer(
    name="launcher",
    help="A private OpenAI-compatible endpoint for the best quantised model this machine can hold.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Launcher,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every command below, too
)


@app.callback(invoke_without_command=True)
def _global(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"launcher {__version__}\n")
        raise typer.Exit
    command = ctx.invoked_subcommand
    if command is None:
        if sys.stdout.isatty() and sys.stdin.isatty():
            _greet()
        else:
            show_help(ctx)
        raise typer.Exit
    if ctx.obj and command not in TAKES_ENGINE_FLAGS:
        raise UsageError(
            f"`launcher {command}` takes no llama-server flags, and `--` was followed by {ctx.obj[0]}",
            hint=f"launcher {command} --help",
        )


def _greet() -> None:
    """Say what this machine can run well, and where the rest is."""
    from launcher.cli.options.bundles import MachineOptions
    from launcher.cli.recommend import recommend
    from launcher.cli.show.output import Output

    out = Output(as_json=False)
    with contextlib.suppress(typer.Exit):  # nothing fits: said, and no error of a bare `launcher`
        recommend(MachineOptions(), out, purpose="chat", most=5)
    out.write(
        "\nlauncher up REF           start one of them: an OpenAI-compatible server\n"
        "launcher recommend        more of them, --for coding, vision, embedding\n"
        "launcher models           all that are known by name\n"
        "launcher --help           all commands\n"
    )


def main() -> None:
    """Run the command line and exit with its code. SIGTERM and SIGHUP end it as Ctrl-C does: cleaned up."""
    open_closed_streams()
    tighten_umask()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, _terminate)
    write_anyhow()
    code = execute(sys.argv[1:])
    if not is_flushed():
        silence_stdout()
        code = code or TryAgain.exit_code
    gc.freeze()  # no garbage is worth collecting: the last collection took 0.07 s of every command
    sys.exit(code)


def _terminate(_number: int, _frame: object) -> None:
    _TERMINATED.set()
    raise KeyboardInterrupt


def execute(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error is printed as a sentence and a hint."""
    # what follows `--` is llama-server's: typer never sees it, commands find it in `ctx.obj`
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, engine_flags = arguments[:at], tuple(arguments[at + 1 :])
    try:
        code = app(
            own,
            standalone_mode=False,
            prog_name="launcher",
            obj=engine_flags,
            default_map=configured_defaults(own[0] if own else ""),
        )
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # The reader has seen enough (`launcher logs | head`). Where typer or rich see it first, they
        # exit with status 1.
        silence_stdout()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(arguments, Interrupted("interrupted"))
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets a sentence
        return _fail(arguments, _explained(own, list(engine_flags), error))
    if code == Interrupted.exit_code:  # typer has turned the interrupt into this code, without a word
        if _TERMINATED.is_set() and own[:1] == ["up"] and "--foreground" in own:
            return 0  # systemd and containers end it so; it has ended everything, and nothing failed
        return _fail(arguments, Interrupted("interrupted"))
    return code if isinstance(code, int) else 0


def _explained(own: list[str], engine_flags: list[str], error: Exception) -> LauncherError:
    from launcher.cli.explain_error import explain_error, misplaced_flag

    takes_flags = bool(own) and own[0] in TAKES_ENGINE_FLAGS
    return (misplaced_flag(own, engine_flags, error) if takes_flags else None) or explain_error(error)


def _fail(arguments: list[str], error: LauncherError) -> int:
    """Print the error and return its exit code. A hint without a command gets one."""
    from launcher.cli.complete_hint import complete_hint
    from launcher.cli.show.output import Output

    if not isinstance(error, Interrupted) or error.hint is not None:
        command, params = _command_meant(arguments)
        if error.hint is None:
            error.hint = f"{command} --help"
        elif error.code != LauncherError.code:  # a fault of launcher's own: no other command is better
            error.hint = complete_hint(error.hint, arguments, command, params)
    with contextlib.suppress(OSError):  # nowhere to say it: the code is all that is left
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        Output(as_json="--json" in own and is_flushed()).error(error)
    return error.exit_code


def _command_meant(arguments: list[str]) -> tuple[str, list[Any]]:
    """Return the command as typed, or the nearest there is, and its parameters; `launcher` if none is."""
    import difflib

    word, *rest = arguments or [""]
    commands = LazyCommands()
    near = difflib.get_close_matches(word, commands, n=1)
    if not near:
        return "launcher", []
    command = commands[near[0]]
    inner = getattr(command, "commands", {})  # of `launcher engine`
    if rest and rest[0] in inner:
        return f"launcher {near[0]} {rest[0]}", inner[rest[0]].params
    return f"launcher {near[0]}", command.params
