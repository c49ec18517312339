"""Bundles of the commands that measure: `bench` and `tune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOptions:
    """The turn that is measured."""

    prompt: Annotated[int, typer.Option("--prompt", min=1, max=1 << 20, help="Tokens of a prompt.")] = 512
    reply: Annotated[int, typer.Option("--reply", min=2, max=1 << 16, help="Tokens of a reply.")] = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `bench` measures beside a turn, and what it compares it with."""

    depth: Annotated[
        list[int] | None,
        typer.Option("--depth", min=0, max=1 << 24, help="After so many tokens; repeat it [default: 0]."),
    ] = None
    repetitions: Annotated[
        int, typer.Option("-r", "--repetitions", min=1, max=50, help="Times; each loads the model anew.")
    ] = 3
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="ENGINE",
            help="Measure another engine in turns with it: a path, a name, bNNNNN.",
            show_default=False,
        ),
    ] = None
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Exit with 1 if it is slower than when it was last measured."),
    ] = False
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="FILE", help="Append a row for each depth, as CSV.", show_default=False
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """How long `tune` tries, and what it measures."""

    minutes: Annotated[
        float, typer.Option("--minutes", min=0.1, max=24 * 60, help="Stop within this time.")
    ] = 10
    traffic: Annotated[
        Path | None,
        typer.Option(
            "--traffic",
            metavar="FILE",
            help='Measure your own prompts: {"prompt": …} or {"messages": …} a line, every third held out.',
            show_default=False,
        ),
    ] = None
