"""Values as the JSON that programs read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping


def json_text(value: object) -> str:
    """Return `value` as indented JSON that is safe to print, ending with a newline."""
    text = json.dumps(json_value(value), indent=2, ensure_ascii=False)
    return "".join(f"{line if line.isprintable() else _spelled(line)}\n" for line in text.split("\n"))


def _spelled(line: str) -> str:
    # json.dumps lets through control characters beyond ASCII, marks that turn the direction of text, and
    # surrogates, the bytes of file names that are not UTF-8 (PEP 383), which cannot be encoded
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in line)


def json_value(value: object) -> object:
    """Convert dataclasses and mappings to objects, collections to arrays, anything else unknown to text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)
