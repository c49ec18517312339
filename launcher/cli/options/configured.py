"""Give commands the defaults of the config file."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from launcher.errors import UsageError

_PLANNING, _STARTING = ("plan", "pull", "bench", "up", "run"), ("up", "run")


def configured_defaults() -> dict[str, dict[str, Any]]:
    """Return options' defaults by command; none from a config file that is broken: commands say that."""
    from launcher.system.settings import read_settings

    try:
        defaults = read_settings().defaults
    except UsageError:
        return {}
    planning = {"prefer": defaults.prefer, "reserve": list(defaults.reserve) or None}
    starting = {"port": defaults.port, "api_key_file": defaults.key_file}
    by_command: dict[str, dict[str, Any]] = {name: dict(planning) for name in _PLANNING}
    for name in _STARTING:
        by_command[name] |= starting
    return {
        command: {name: value for name, value in given.items() if value is not None}
        for command, given in by_command.items()
    }


def is_typed(ctx: typer.Context, bundle: type, *, but: str = "") -> bool:
    """Tell if any option of the bundle was typed; defaults of the config file were not."""
    names = [field.name for field in dataclasses.fields(bundle) if field.name != but]
    sources = (ctx.get_parameter_source(name) for name in names)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)
