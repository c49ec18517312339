"""The command `help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.show.output import Output
from launcher.errors import NotFound

_FOLDER = Path(__file__).parent / "topics"


def help_topic(
    ctx: typer.Context,
    out: Output,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC", help="A topic, or a command; without it the list.", show_default=False
        ),
    ] = None,
) -> None:
    """Explain a topic: words, models, machines, gateway, scripts, flags, numbers, failures."""
    texts = topics()
    if topic is None:
        titles = {name: text.partition("\n")[0] for name, text in texts.items()}
        out.show_lines(titles, [f"{name:<10}{title}" for name, title in titles.items()])
    elif topic in texts:
        out.show_lines({"topic": topic, "text": texts[topic]}, texts[topic].splitlines())
    else:
        text = _command_help(ctx, topic)
        if text is None:
            raise NotFound(f"no topic and no command is called {topic!r}", hint="launcher help")
        out.show_lines({"command": topic, "text": text}, text.splitlines())


def topics() -> dict[str, str]:
    """Return the text of each topic by its name."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(_FOLDER.glob("*.txt"))}


def _command_help(ctx: typer.Context, name: str) -> str | None:
    commands = getattr(ctx.parent.command, "commands", {}) if ctx.parent else {}
    if name not in commands:
        return None
    with type(ctx)(commands[name], info_name=name, parent=ctx.parent) as inner:
        return str(commands[name].get_help(inner))
