"""Commands: pull, up, run, serve, ps, logs, stop."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
