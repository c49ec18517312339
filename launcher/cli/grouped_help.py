"""Help in groups, with whole sentences: nothing is cut at 80 columns."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

# In the order of `launcher --help`: what is typed every day first.
SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Every day", ("recommend", "up", "run", "ps", "stop", "logs")),
    ("Plan", ("plan", "check", "inspect", "probe", "bench", "tune", "cost")),
    ("Models", ("models", "search", "pull", "ls", "rm", "bundle", "profiles")),
    (
        "Keep running",
        ("serve", "cluster", "keys", "restart", "history", "connect", "enable", "disable", "export"),
    ),
    ("Engine and help", ("engine", "config", "doctor", "help")),
)


# Of commands with many options: those that a first day needs. The others come after them.
_COMMON = frozenset(
    {"quant", "ctx_size", "mode", "name", "port", "host", "api_key_file", "prefer", "gpus", "yes", "json"}
    | {"offline", "dry_run", "machine", "gpu", "ram", "buy", "lock", "explain", "system", "folder", "help"}
    | {"minutes", "traffic", "depth", "repetitions", "against", "baseline", "export"}
    | {"temperature", "max_tokens", "json_schema", "image", "file", "svg"}
)
_MANY = 14  # options that are read at a glance


class OptionsInParts(TyperCommand):
    """A command that shows its common options first, if it has many."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        parts: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Advanced": []}
        params = self.get_params(ctx)
        few = sum(param.param_type_name == "option" for param in params) <= _MANY
        for param in params:
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name != "option":
                parts["Arguments"].append(record)
            elif few or param.name in _COMMON:
                parts["Options"].append(record)
            else:
                parts["Advanced"].append(record)
        for title, rows in parts.items():
            _write(formatter, title, rows)


class GroupedHelp(TyperGroup):
    """A group of commands whose help has sections."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        """Write the commands section by section; those of none come last."""
        shown = {name for _, names in SECTIONS for name in names}
        for title, names in (*SECTIONS, ("More", [name for name in self.commands if name not in shown])):
            _write(formatter, title, [(name, self.sentence(name)) for name in names])

    def sentence(self, name: str) -> str:
        return first_sentence(self.commands[name].help)


class PlainGroup(TyperGroup):
    """A group of commands whose help has whole sentences."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  typer's signature
        shown = [(name, each) for name, each in self.commands.items() if not each.hidden]
        _write(formatter, "Commands", [(name, first_sentence(command.help)) for name, command in shown])


def _write(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def first_sentence(text: str | None) -> str:
    """Return the first line of a command's help, whole."""
    return (text or "").strip().partition("\n")[0].removesuffix(".")
