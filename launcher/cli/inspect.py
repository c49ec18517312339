"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.single import Offline, Quant, Ref
from launcher.cli.show.output import Output


def inspect(
    ref: Ref,
    out: Output,
    offline: Offline = False,
    quant: Quant = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Keep the headers in this file, to plan offline.", show_default=False),
    ] = None,
) -> None:
    """Read a model's headers, no weights: architecture, sizes, quant as the tensors really are."""
    from launcher.cli.show.model import model_json, render_model
    from launcher.commands.inspect import read_headers
    from launcher.gguf.anatomy import dissect
    from launcher.models.saved import save_headers

    with here_with_progress(out, offline=offline) as here:
        located = read_headers(here, ref, quant)
    model = located.model
    anatomy = dissect(model.metadata, model.tensors, file_name=model.shards[0].name)
    if save is not None:
        saved = save_headers(located, save)
        out.say(f"saved to {saved}: plan with it offline, launcher plan ./{saved.name}")
    out.show(model_json(model, anatomy), render_model(model, anatomy))
