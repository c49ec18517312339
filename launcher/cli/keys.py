"""The group `keys`: who may ask the gateway."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from launcher.cli.show.output import Output

KeyName = Annotated[str, typer.Argument(metavar="NAME", help="The key's name.")]


def add(
    name: KeyName,
    out: Output,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models", metavar="NAME", help="For these models only; may be repeated.", show_default=False
        ),
    ] = None,
) -> None:
    """Make a key for the gateway, and show it: once, for only its hash is kept."""
    from launcher.gateway.keys import add_key
    from launcher.system.settings import read_settings

    wanted = tuple(word for text in models or () for word in text.split(",") if word)
    key = add_key(read_settings(), name, wanted)
    out.show_lines({"name": name, "key": key, "models": wanted}, (key,))
    out.say("note: it is shown this once; send it as Authorization: Bearer KEY")


def ls(out: Output) -> None:
    """List the keys by name: since when, and for which models."""
    from launcher.gateway.keys import keys_path, read_key_list
    from launcher.system.settings import read_settings

    keys = read_key_list(keys_path(read_settings()))
    shown = [{name: value for name, value in asdict(key).items() if name != "sha256"} for key in keys]
    lines = []
    for key in keys:
        day = time.strftime("%Y-%m-%d", time.localtime(key.made_at))
        lines.append(f"{key.name}  {day}  {' '.join(key.models) or 'all models'}")
    out.show_lines(shown, lines or ("no keys: launcher keys add NAME",))


def rm(name: KeyName, out: Output) -> None:
    """Remove a key: it opens nothing from now on."""
    from launcher.gateway.keys import remove_key
    from launcher.system.settings import read_settings

    remove_key(read_settings(), name)
    out.show_lines({"removed": name}, (f"{name} removed",))
