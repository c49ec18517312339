"""The command `disable`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.single import System
from launcher.cli.show.output import Output


def disable(
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The deployment.", show_default=False)],
    system: System = False,
) -> None:
    """Stop and remove the systemd unit of a deployment."""
    from launcher.cli.show.tables import line
    from launcher.commands import install

    path = install.disable(name, system=system)
    out.show({"removed": path}, line(f"removed {path}"))
