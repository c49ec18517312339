"""The findings of `doctor` as lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import line
from launcher.commands.doctor import Finding


def render_findings(findings: Sequence[Finding]) -> RenderableType:
    """Lay out each finding with its fix below, in the order given."""
    lines = []
    for finding in findings:
        lines.append(line(f"{'WRONG' if finding.wrong else 'note '}  {finding.check}: {finding.text}"))
        lines += [line(f"       {finding.fix}")] if finding.fix else []
    if not any(finding.wrong for finding in findings):
        lines.append(Text("nothing is wrong"))
    return Group(*lines)
