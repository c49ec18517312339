"""Commands: probe, inspect, plan, profiles: commands that look and change nothing."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
