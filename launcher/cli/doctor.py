"""The command `doctor`."""

from __future__ import annotations

import typer

from launcher.cli.options.bundles import EngineOptions
from launcher.cli.show.output import Output


def doctor(engine_options: EngineOptions, out: Output) -> None:
    """Say what is wrong with this machine or install, and the fix; exit 0 only when nothing is."""
    from launcher.cli.show.findings import render_findings
    from launcher.commands.doctor import examine

    findings = examine(engine_options.engine)
    is_wrong = any(finding.wrong for finding in findings)
    out.show({"well": not is_wrong, "findings": findings}, render_findings(findings))
    if is_wrong:
        raise typer.Exit(1)
