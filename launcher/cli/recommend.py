"""The command `recommend`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import MachineOptions
from launcher.cli.show.output import Output


def recommend(
    machine_options: MachineOptions,
    out: Output,
    *,
    purpose: Annotated[
        str,
        typer.Option("--for", metavar="PURPOSE", help="chat, coding, vision, embedding or rerank."),
    ] = "chat",
    most: Annotated[int, typer.Option("-n", "--number", min=1, max=100, help="At most so many.")] = 10,
) -> None:
    """List the best models that this machine, or another one, can hold: estimated, without a network."""
    from launcher.cli.requests import machine_choice
    from launcher.cli.show.recommended import render_recommendation
    from launcher.commands.recommend import document, pick_purpose
    from launcher.commands.recommend import recommend as recommend_models
    from launcher.errors import DoesNotFit

    wanted = pick_purpose(purpose)
    with here_with_progress(out, offline=True) as here:
        found = recommend_models(here, machine_choice(machine_options), wanted, most)
    out.show(document(found), *render_recommendation(found))
    if not found.rows:
        raise typer.Exit(DoesNotFit.exit_code)
