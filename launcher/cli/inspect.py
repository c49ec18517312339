"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import working
from launcher.cli.options import Offline, Ref, unfolded
from launcher.cli.show.output import Output


def register(app: typer.Typer) -> None:
    """Hang the command on the app."""
    app.command()(unfolded(inspect))


def inspect(
    ref: Ref,
    out: Output,
    offline: Offline = False,
    quant: Annotated[str | None, typer.Option("--quant", help="This quant.", show_default=False)] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Keep the headers in this file, to plan offline.", show_default=False),
    ] = None,
) -> None:
    """Read a model's headers, no weights: architecture, sizes, quant as the tensors really are."""
    from launcher.cli.show import model as show_model
    from launcher.commands.inspect import read_headers
    from launcher.gguf.anatomy import dissect
    from launcher.models.saved import save_headers

    with working(out, offline=offline) as here:
        located = read_headers(here, ref, quant)
    model = located.model
    anatomy = dissect(model.metadata, model.tensors, file_name=model.shards[0].name)
    if save is not None:
        kept = save_headers(located, save)
        out.say(f"saved to {kept}: plan with it offline, launcher plan ./{kept.name}")
    out.show(show_model.document(model, anatomy), show_model.table(model, anatomy))
