"""The commands by name. Each is imported when it is asked for: what is not typed costs nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import typer

from launcher.cli.grouped_help import GroupedHelp, OptionsInParts, PlainGroup, first_sentence

_FLAGS = "What follows -- goes to llama-server: -- -ub 1024 --lora FILE"
_FILES = "Of llama-server's flags after -- the files are pulled too: -- -hfd user/repo --mmproj-url URL"
_LINE = "launcher check -- llama-server -m model.gguf -ngl 99"

# where the function of a command is, below launcher.cli
_COMMANDS = {
    "recommend": "recommend:recommend",
    "models": "models:models",
    "search": "search:search",
    "probe": "probe:probe",
    "inspect": "inspect:inspect",
    "plan": "plan:plan",
    "check": "check:check",
    "pull": "pull:pull",
    "ls": "ls:ls",
    "rm": "rm:rm",
    "bundle": "bundle:bundle",
    "up": "up:up",
    "run": "run:run",
    "serve": "serve:serve",
    "connect": "connect:connect",
    "cost": "cost:cost",
    "ps": "running.ps:ps",
    "logs": "running.logs:logs",
    "stop": "running.stop:stop",
    "restart": "running.restart:restart",
    "history": "running.history:history",
    "bench": "bench:bench",
    "tune": "tune:tune",
    "doctor": "doctor:doctor",
    "help": "help_topics:help_topic",
    "enable": "running.enable:enable",
    "disable": "running.disable:disable",
    "export": "running.export:export",
}
# Commands that take llama-server's flags after `--` have a line on them below their help, for which a usage
# line has no place.
TAKES_ENGINE_FLAGS = {
    "plan": _FLAGS,
    "check": _LINE,
    "pull": _FILES,
    "bundle": _FLAGS,
    "up": _FLAGS,
    "run": _FLAGS,
    "bench": _FLAGS,
    "tune": _FLAGS,
}
_GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "profiles": (
        "The models launcher knows by name.",
        {"list": "profiles:list_profiles", "show": "profiles:show_profile"},
    ),
    "config": (
        "Defaults for what is typed again and again.",
        {"show": "config:show", "set": "config:set_default", "path": "config:path"},
    ),
    "cluster": (
        "Machines that models run on, reached by ssh; or known by Ray.",
        {
            name: f"cluster:{name}"
            for name in ("add", "start", "join", "ls", "drain", "leave", "node", "rank")
        },
    ),
    "keys": (
        "Who may ask the gateway from elsewhere.",
        {name: f"keys:{name}" for name in ("add", "ls", "rm")},
    ),
    "engine": (
        "The llama.cpp that plans and runs.",
        {
            "install": "engine:install",
            "build": "engine:build",
            "list": "engine:list_engines",
            "info": "engine:info",
            "use": "engine:use",
            "update": "engine:update",
            "compare": "engine:compare",
            "rollback": "engine:rollback",
            "rm": "engine:rm",
        },
    ),
}
_FOR_LAUNCHERS = frozenset({"cluster:node", "cluster:rank"})  # what launchers of other machines type


class LazyCommands(Mapping[str, Any]):
    """Typer's commands by name, each made when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter((*_COMMANDS, *_GROUPS))

    def __len__(self) -> int:
        return len(_COMMANDS) + len(_GROUPS)

    def __contains__(self, name: object) -> bool:
        return name in _COMMANDS or name in _GROUPS

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _group(name) if name in _GROUPS else _command(name)
        return self._made[name]

    def sentence(self, name: str) -> str:
        """Return what a command does, without making it: that takes longer than to import its function."""
        text = _GROUPS[name][0] if name in _GROUPS else inspect.getdoc(_function(_COMMANDS[name]))
        return first_sentence(text)


class Launcher(GroupedHelp):
    """The command `launcher`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = self.lazy = LazyCommands()  # type: ignore[assignment]  # nothing is added to it

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  typer's signature
        return list(self.lazy)

    def sentence(self, name: str) -> str:
        return self.lazy.sentence(name)


def show_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _command(name: str) -> Any:
    from launcher.cli.options.unfold import unfold

    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    epilog = TAKES_ENGINE_FLAGS.get(name)
    alone.command(name, epilog=epilog, cls=OptionsInParts)(unfold(_function(_COMMANDS[name])))
    return typer.main.get_command(alone)


def _group(name: str) -> Any:
    from launcher.cli.options.unfold import unfold

    sentence, members = _GROUPS[name]
    group = typer.Typer(name=name, help=sentence, rich_markup_mode=None, cls=PlainGroup)
    group.callback(invoke_without_command=True)(show_help)
    for member, place in members.items():
        group.command(member, hidden=place in _FOR_LAUNCHERS)(unfold(_function(place)))
    return typer.main.get_group(group)


def _function(place: str) -> Callable[..., None]:
    module, _, name = place.partition(":")
    function: Callable[..., None] = getattr(import_module(f"launcher.cli.{module}"), name)
    return function
