"""Change one value in the text of `config.toml`; comments and everything else stay. Pure."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from typing import Any

from launcher.errors import UsageError

DEFAULTS = "defaults"
_VALUE = re.compile(r'\s*+(?:"[^"]*+"|\[[^\]]*+\]|[^"#\[]*+)')
TEMPLATE = """\
# launcher's defaults: what is typed wins over them. launcher config show

# engine = ""           # a llama-server of yours: "/path/llama-server"

[defaults]
# context = "32k"       # tokens; less where a model was trained for less
# prefer = "balanced"   # or "quality", "speed"
# reserve = ["2G"]      # left free on every GPU; "CUDA0=2G", "ram=8G"
# port = 8080           # of `up` and `run`
# key-file = ""         # API keys, one a line
# folders = []          # of your own GGUF files: REFs by name, and in `launcher ls`
"""


def set_value(text: str, key: str, value: object | None) -> str:
    """Return the text with the key set, or without it for None.

    `engine` stands at the top, every other key in [defaults]. Raises UsageError where a line cannot do it.
    """
    before = _parsed(text)
    if not isinstance(before.get(DEFAULTS, {}), dict):
        raise UsageError("defaults is no table in the config file", hint="launcher config path")
    section = "" if key == "engine" else DEFAULTS
    lines = text.splitlines()
    if section and not any(_is_header(line, section) for line in lines):
        lines += ["", f"[{section}]"]
    start, stop = _span(lines, section)
    written = None if value is None else f"{key} = {_toml(value)}"
    at = _find(lines, start, stop, key)
    if at is None:
        new = [] if written is None else [written]
        lines[start:start] = new
    else:
        lines[at : at + 1] = [written + _comment(lines[at])] if written is not None else [f"# {lines[at]}"]
    changed = "\n".join(lines) + "\n"
    if _readable(changed) != _expected(before, section, key, value):
        raise UsageError(f"{key} is written over several lines: edit it there", hint="launcher config path")
    return changed


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the config file cannot be read: {error}", hint="launcher config path") from error


def _readable(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(UsageError):
        return _parsed(text)
    return None


def _expected(before: dict[str, Any], section: str, key: str, value: object | None) -> dict[str, Any]:
    table = dict(before.get(section, {}) if section else before)
    table.pop(key, None)
    if value is not None:
        table[key] = value
    return {**before, section: table} if section else table


def _is_header(line: str, section: str) -> bool:
    return re.fullmatch(rf"\s*\[\s*{section}\s*\]\s*(#.*)?", line) is not None


def _span(lines: list[str], section: str) -> tuple[int, int]:
    """Return where a section's lines begin and end; those of the top have no header."""
    heads = [index for index, line in enumerate(lines) if line.lstrip().startswith("[")]
    start = next(index + 1 for index in heads if _is_header(lines[index], section)) if section else 0
    return start, next((index for index in heads if index >= start), len(lines))


def _find(lines: list[str], start: int, stop: int, key: str) -> int | None:
    """Return the line that sets a key, else one that does in a comment."""
    for pattern in (rf"\s*{key}\s*=", rf"\s*#\s*{key}\s*="):
        for index in range(start, stop):
            if re.match(pattern, lines[index]):
                return index
    return None


def _comment(line: str) -> str:
    """Return the comment behind a value, with the blanks before it."""
    _, _, text = line.partition("=")
    value = _VALUE.match(text)
    behind = text[len(text[: value.end()].rstrip()) :] if value else ""
    return behind if behind[:1].isspace() and behind.lstrip().startswith("#") else ""


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and lists of strings are spelled alike
