"""The command `pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import FilesOptions
from launcher.cli.options.single import NoVision, Offline, Quant, Ref
from launcher.cli.show.output import Output
from launcher.errors import UsageError


def pull(
    ctx: typer.Context,
    ref: Ref,
    files: FilesOptions,
    out: Output,
    quant: Quant = None,
    offline: Offline = False,
    no_vision: NoVision = False,
    yes: Annotated[
        bool,
        typer.Option(
            "-y", "--yes", help="Do not ask before a large download (without a terminal: only said)."
        ),
    ] = False,
) -> None:
    """Download exactly the files of the planned quant, verified, and print their paths.

    The same command goes on where it stopped.
    """
    from launcher.commands.pull import PullRequest
    from launcher.commands.pull import pull as pull_files
    from launcher.models.located import PullOptions
    from launcher.models.transfer.tuning import Tuning
    from launcher.system.settings import expand_home

    options = PullOptions(
        folder=expand_home(files.folder).absolute() if files.folder else None,
        look_in=tuple(_folder(path) for path in files.look_in or ()),
        verify=files.verify,
        tuning=Tuning(connections=files.connections) if files.connections else None,
    )
    typed = (*["--offline"] * offline, *["--no-vision"] * no_vision, *["-y"] * yes)
    request = PullRequest(
        ref=ref, quant=quant, options=options, flags=ctx.obj, vision=not no_vision, typed=typed
    )
    with here_with_progress(out, offline=offline, yes=yes) as here:
        paths = pull_files(here, request)
    out.show_lines({"paths": paths}, [str(path) for path in paths])


def _folder(path: Path) -> Path:
    from launcher.system.settings import expand_home

    path = expand_home(path).absolute()
    if not path.is_dir():
        raise UsageError(f"--from {path} is not a folder", hint=f"ls {path.parent}")
    return path
