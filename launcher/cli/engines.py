"""Commands: engine build, list, info."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
