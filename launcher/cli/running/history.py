"""The command `history`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.single import Name
from launcher.cli.show.output import Output


def history(
    out: Output,
    name: Name = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last loads.")] = 20,
) -> None:
    """Show the last loads: planned against seen, how long, how they ended."""
    from launcher.cli.show.history import render_history
    from launcher.deployment.history import read_history
    from launcher.errors import NotFound
    from launcher.system.settings import read_settings

    entries = [entry for entry in read_history(read_settings().history_file) if name in {None, entry.name}]
    if name is not None and not entries:
        raise NotFound(f"no load of {name} is recorded here", hint="launcher history")
    shown = tuple(entries[-lines:])
    out.show(shown, render_history(shown))
