"""The command `launcher`: parse, call one function, print, exit code."""

from __future__ import annotations

import contextlib
import difflib
import gc
import signal
import sys
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from launcher import __version__
from launcher.cli import (
    bench,
    bundle,
    check,
    cluster,
    config,
    connect,
    cost,
    doctor,
    engine,
    help_topics,
    inspect,
    keys,
    ls,
    models,
    plan,
    probe,
    profiles,
    pull,
    recommend,
    rm,
    run,
    search,
    serve,
    tune,
    up,
)
from launcher.cli.explain_error import explain_error, misplaced_flag
from launcher.cli.grouped_help import GroupedHelp, OptionsInParts, PlainGroup
from launcher.cli.options.bundles import MachineOptions
from launcher.cli.options.configured import configured_defaults
from launcher.cli.options.unfold import unfold
from launcher.cli.running import disable, enable, export, history, logs, ps, restart, stop
from launcher.cli.show.output import Output
from launcher.cli.streams import is_flushed, open_closed_streams, silence_stdout, write_anyhow
from launcher.errors import Interrupted, LauncherError, TryAgain, UsageError
from launcher.system.umask import tighten_umask

_FLAGS = "What follows -- goes to llama-server: -- -ub 1024 --lora FILE"
_FILES = "Of llama-server's flags after -- the files are pulled too: -- -hfd user/repo --mmproj-url URL"
_LINE = "launcher check -- llama-server -m model.gguf -ngl 99"

# `launcher --help` has the order of `grouped_help.SECTIONS`. Commands that take llama-server's flags after
# `--` have a line on them below their help, for which a usage line has no place.
_COMMANDS: tuple[tuple[Callable[..., None], str | None], ...] = (
    (recommend.recommend, None),
    (models.models, None),
    (search.search, None),
    (probe.probe, None),
    (inspect.inspect, None),
    (plan.plan, _FLAGS),
    (check.check, _LINE),
    (pull.pull, _FILES),
    (ls.ls, None),
    (rm.rm, None),
    (bundle.bundle, _FLAGS),
    (up.up, _FLAGS),
    (run.run, _FLAGS),
    (serve.serve, None),
    (connect.connect, None),
    (cost.cost, None),
    (ps.ps, None),
    (logs.logs, None),
    (stop.stop, None),
    (restart.restart, None),
    (history.history, None),
    (bench.bench, _FLAGS),
    (tune.tune, _FLAGS),
    (doctor.doctor, None),
    (help_topics.help_topic, None),
    (enable.enable, None),
    (disable.disable, None),
    (export.export, None),
)
_GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "profiles": (
        "The models launcher knows by name.",
        {"list": profiles.list_profiles, "show": profiles.show_profile},
    ),
    "config": (
        "Defaults for what is typed again and again.",
        {"show": config.show, "set": config.set_default, "path": config.path},
    ),
    "cluster": (
        "Machines that models run on, reached by ssh.",
        {
            "add": cluster.add,
            "ls": cluster.ls,
            "drain": cluster.drain,
            "leave": cluster.leave,
            "node": cluster.node,
            "rank": cluster.rank,
        },
    ),
    "keys": (
        "Who may ask the gateway from elsewhere.",
        {"add": keys.add, "ls": keys.ls, "rm": keys.rm},
    ),
    "engine": (
        "The llama.cpp that plans and runs.",
        {
            "install": engine.install,
            "build": engine.build,
            "list": engine.list_engines,
            "info": engine.info,
            "use": engine.use,
            "update": engine.update,
            "compare": engine.compare,
            "rollback": engine.rollback,
            "rm": engine.rm,
        },
    ),
}
# what launchers of other machines type
_FOR_LAUNCHERS = frozenset({cluster.node, cluster.rank})
_TAKES_ENGINE_FLAGS = frozenset(function.__name__ for function, flags_help in _COMMANDS if flags_help)

# set when another process has ended this one, and not a user at the keyboard
_TERMINATED = threading.Event()


def _make_app() -> typer.Typer:
    made = typer.Typer(
        name="launcher",
        help="A private OpenAI-compatible endpoint for the best quantised model this machine can hold.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        cls=GroupedHelp,
        context_settings={"help_option_names": ["-h", "--help"]},  # of every command below, too
    )
    for function, flags_help in _COMMANDS:
        name = function.__name__.removesuffix("_topic")  # `help` is a function of Python's
        made.command(name, epilog=flags_help, cls=OptionsInParts)(unfold(function))
    for group_name, (group_help, members) in _GROUPS.items():
        group = typer.Typer(help=group_help, rich_markup_mode=None, cls=PlainGroup)
        group.callback(invoke_without_command=True)(_show_help)
        for name, function in members.items():
            group.command(name, hidden=function in _FOR_LAUNCHERS)(unfold(function))
        made.add_typer(group, name=group_name)
    return made


def _show_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")


app = _make_app()


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
            _show_help(ctx)
        raise typer.Exit
    if ctx.obj and command not in _TAKES_ENGINE_FLAGS:
        raise UsageError(
            f"`launcher {command}` takes no llama-server flags, and `--` was followed by {ctx.obj[0]}",
            hint=f"launcher {command} --help",
        )


def _greet() -> None:
    """Say what this machine can run well, and where the rest is."""
    out = Output(as_json=False)
    with contextlib.suppress(typer.Exit):  # nothing fits: said, and no error of a bare `launcher`
        recommend.recommend(MachineOptions(), out, purpose="chat", most=5)
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
        return _fail(own, Interrupted("interrupted"))
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets a sentence
        return _fail(own, _misplaced(own, error) or explain_error(error))
    if code == Interrupted.exit_code:  # typer has turned the interrupt into this code, without a word
        if _TERMINATED.is_set() and own[:1] == ["up"] and "--foreground" in own:
            return 0  # systemd and containers end it so; it has ended everything, and nothing failed
        return _fail(own, Interrupted("interrupted"))
    return code if isinstance(code, int) else 0


def _misplaced(arguments: list[str], error: Exception) -> LauncherError | None:
    takes_flags = bool(arguments) and arguments[0] in _TAKES_ENGINE_FLAGS
    return misplaced_flag(arguments, error) if takes_flags else None


def _fail(arguments: list[str], error: LauncherError) -> int:
    """Print the error and return its exit code. Without a hint, the command's help is hinted at."""
    if error.hint is None and not isinstance(error, Interrupted):
        error.hint = f"launcher {_command_meant(arguments)}--help"
    with contextlib.suppress(OSError):  # nowhere to say it: the code is all that is left
        Output(as_json="--json" in arguments and is_flushed()).error(error)
    return error.exit_code


def _command_meant(arguments: list[str]) -> str:
    """Return the command as typed, or the nearest there is, and a space; nothing if none is near."""
    word, *rest = arguments or [""]
    commands = typer.main.get_group(app).commands
    near = difflib.get_close_matches(word, commands, n=1)
    if not near:
        return ""
    inner = getattr(commands[near[0]], "commands", {})  # of `launcher engine`
    return f"{near[0]} {rest[0]} " if rest and rest[0] in inner else f"{near[0]} "
