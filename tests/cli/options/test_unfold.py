"""Commands that take bundles, as typer reads them."""

from __future__ import annotations

import inspect
from pathlib import Path

import typer
from typer.testing import CliRunner

from launcher.cli.options.bundles import EngineOptions, MachineOptions
from launcher.cli.options.unfold import unfold
from launcher.cli.show.output import Output


def show(machine: MachineOptions, engine_options: EngineOptions, out: Output, count: int = 1) -> None:
    out.show([machine, engine_options, count])


def test_a_bundle_becomes_its_fields() -> None:
    parameters = inspect.signature(unfold(show)).parameters
    machine = ["machine", "gpu", "ram", "cpu", "sockets", "ram_bandwidth"]
    assert list(parameters) == [*machine, "engine", "json", "progress", "count"]
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_what_is_typed_arrives_in_the_bundles() -> None:
    # also where a field has the name of the bundle's parameter
    seen: list[object] = []

    def keep(machine: MachineOptions, engine_options: EngineOptions, out: Output, count: int = 1) -> None:
        seen.extend((machine, engine_options, out.as_json, count))

    app = typer.Typer()
    app.command()(unfold(keep))
    words = ["--machine", "box", "--ram", "2G", "--engine", "x", "--json", "--count", "3"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    machine = MachineOptions(machine=["box"], gpu=None, ram=2 << 30)
    assert seen == [machine, EngineOptions(engine=Path("x")), True, 3]
