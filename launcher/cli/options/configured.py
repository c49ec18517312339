"""Give commands the defaults of the config file."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from launcher.errors import UsageError

_PLANNING, _STARTING = ("plan", "pull", "bench", "up", "run"), ("up", "run")


def configured_defaults(command: str) -> dict[str, dict[str, Any]]:
    """Return the options' defaults of a command; none from a broken config file: commands say that."""
    if command not in _PLANNING:
        return {}
    from launcher.system.settings import read_settings

    try:
        defaults = read_settings().defaults
    except UsageError:
        return {}
    given: dict[str, Any] = {"prefer": defaults.prefer, "reserve": list(defaults.reserve) or None}
    if command in _STARTING:
        given |= {"port": defaults.port, "api_key_file": defaults.key_file}
    return {command: {name: value for name, value in given.items() if value is not None}}


def is_typed(ctx: typer.Context, bundle: type, *, but: str = "") -> bool:
    """Tell if any option of the bundle was typed; defaults of the config file were not."""
    names = [field.name for field in dataclasses.fields(bundle) if field.name != but]
    sources = (ctx.get_parameter_source(name) for name in names)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)
