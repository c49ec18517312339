"""The command `doctor`."""

from __future__ import annotations

import typer

from launcher.cli.options import EngineOptions, unfolded
from launcher.cli.show.output import Output


def register(app: typer.Typer) -> None:
    """Hang the command on the app."""
    app.command()(unfolded(doctor))


def doctor(engine: EngineOptions, out: Output) -> None:
    """Say what is wrong with this machine or install, and the fix; exit 0 only when nothing is."""
    from launcher.cli.show import history as tables_history
    from launcher.commands import doctor as examination

    findings = examination.examine(engine.engine)
    wrong = any(finding.wrong for finding in findings)
    out.show({"well": not wrong, "findings": findings}, tables_history.findings(findings))
    if wrong:
        raise typer.Exit(1)
