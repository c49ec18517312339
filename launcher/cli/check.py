"""The command `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions
from launcher.cli.options.single import Offline, OptionalRef
from launcher.cli.show.output import Output
from launcher.errors import DoesNotFit, EngineFailed, UsageError

if TYPE_CHECKING:
    from launcher.commands.check import Checked
    from launcher.commands.check_router import CheckedRouter


def check(
    ctx: typer.Context,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    out: Output,
    ref: OptionalRef = None,
    offline: Offline = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="HOST:PORT=CARD",
            help="What a peer of --rpc has (3090:2, 24G, cpu:64G); repeat it.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, max=1 << 24, help="Speeds after so many tokens.", show_default=False),
    ] = None,
    from_disk: Annotated[
        bool,
        typer.Option(
            "--from-disk", help="Experts beyond RAM may be read from the file: slow.", show_default=False
        ),
    ] = False,
    prompt: Annotated[
        int | None,
        typer.Option(
            "--prompt", min=1, max=1 << 24, help="… and of a prompt of so many.", show_default=False
        ),
    ] = None,
) -> None:
    """Say whether a llama-server command line (after --) fits, why not, and the flags that do."""
    from launcher.cli.requests import machine_choice
    from launcher.commands.check import CheckRequest
    from launcher.commands.check_router import check_any
    from launcher.plan.check.pace import Point
    from launcher.plan.plan import Finding

    words: tuple[str, ...] = ctx.obj
    if not words and ref is not None and "llama" in ref and " " in ref:
        words, ref = (ref,), None  # the whole line in quotes
    if not words:
        raise UsageError(
            "launcher check needs a llama-server command line",
            hint="launcher check -- llama-server -m model.gguf -ngl 99",
        )
    request = CheckRequest(
        words=words,
        ref=ref,
        machine=machine_choice(machine_options),
        peers=tuple(peer or ()),
        engine=engine_options.engine,
        from_disk=from_disk,
        at=None if depth is None and prompt is None else Point(depth=depth or 0, prompt=prompt or 512),
    )
    with here_with_progress(out, offline=offline) as here:
        checked = check_any(here, request)
    _show(checked, out)
    if checked.finding is Finding.DOES_NOT_FIT or not checked.starts:
        raise typer.Exit(DoesNotFit.exit_code)
    if checked.finding is Finding.UNVERIFIED:
        raise typer.Exit(EngineFailed.exit_code)


def _show(checked: Checked | CheckedRouter, out: Output) -> None:
    from launcher.cli.show.checked import render_checked, show_flags
    from launcher.cli.show.router import render_router, show_router_flags
    from launcher.commands.check import Checked, check_document
    from launcher.commands.check_router import router_document

    if isinstance(checked, Checked):
        out.show(check_document(checked), *render_checked(checked))
        if not out.as_json:
            show_flags(checked, out)
    else:
        out.show(router_document(checked), *render_router(checked))
        if not out.as_json:
            show_router_flags(checked, out)
