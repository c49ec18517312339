"""The command `export`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.single import Name
from launcher.cli.show.output import Output
from launcher.deployment.install.export import Format


def export(
    out: Output,
    kind: Annotated[
        Format,
        typer.Argument(metavar="FORMAT", help="systemd, compose, kubernetes or shell.", show_default=False),
    ],
    name: Name = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Container image with llama-server.", show_default=False)
    ] = None,
) -> None:
    """Print a deployment's server for elsewhere, with requests and limits from the ledger."""
    from launcher.commands import install

    text = install.export(name, kind, image or install.IMAGE)
    if out.as_json:
        out.show({"format": kind, "text": text})
    else:
        out.write_file(text)
