"""The command `search`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import MachineOptions
from launcher.cli.show.output import Output


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words of a name.", show_default=False)],
    machine_options: MachineOptions,
    out: Output,
    *,
    most: Annotated[int, typer.Option("-n", "--number", min=1, max=20, help="At most so many repos.")] = 6,
) -> None:
    """Ask the Hub for repos of GGUF files: downloads, quants, and the largest that could fit."""
    from launcher.cli.requests import machine_choice
    from launcher.cli.show.searched import document, render_searched
    from launcher.commands.search import search_hub

    with here_with_progress(out) as here:
        found = search_hub(here, machine_choice(machine_options), query, most)
    out.show(document(found), render_searched(found))
