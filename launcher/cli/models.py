"""The command `models`: what is known by name, and if it fits."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import MachineOptions
from launcher.cli.show.output import Output


def models(
    machine_options: MachineOptions,
    out: Output,
    *,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="A part of the name, or a purpose.", show_default=False),
    ] = None,
) -> None:
    """List the models known by name: purpose, context, the best quant that fits, its size."""
    from launcher.cli.requests import machine_choice
    from launcher.cli.show.recommended import render_known
    from launcher.commands.recommend import known_models

    with here_with_progress(out, offline=True) as here:
        for broken in here.sources.profiles.broken:
            out.say(f"note: {broken.error.message}")
        known = known_models(here, machine_choice(machine_options), query)
    out.show(
        [
            {
                "profile": row.profile.name,
                "title": row.profile.title,
                "purposes": [purpose.value for purpose in row.profile.purposes],
                "context": row.profile.context.max,
                "license": row.profile.license,
                "fits": row.found is not None,
                "estimated": True,
                "quant": row.found.quant if row.found else None,
                "size_bytes": row.found.size_bytes if row.found else None,
            }
            for row in known
        ],
        render_known(known),
    )
