"""Write mappings, lists and scalars as YAML, every text quoted. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping


def yaml_text(value: object, indent: int = 0) -> str:
    pad = "  " * indent
    if isinstance(value, Mapping):
        return "".join(f"{pad}{key}:{_value(item, indent)}" for key, item in value.items())
    if isinstance(value, list):
        return "".join(f"{pad}-{_value(item, indent)}" for item in value)
    raise TypeError(f"{value!r} is neither mapping nor list")


def _value(item: object, indent: int) -> str:
    if isinstance(item, Mapping | list):
        empty = "{}" if isinstance(item, Mapping) else "[]"
        return "\n" + yaml_text(item, indent + 1) if item else f" {empty}\n"
    if isinstance(item, bool):
        return f" {'true' if item else 'false'}\n"
    if isinstance(item, int):
        return f" {item}\n"
    quoted = json.dumps(str(item), ensure_ascii=False)  # as JSON quotes a string, which YAML takes
    escaped = (char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
    return f" {''.join(escaped)}\n"
