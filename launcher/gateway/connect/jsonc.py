"""Set values in JSON with comments, and leave every other byte as it is. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_OTHER = re.compile(r"[^\s,\]}/:\[{\"]+")
_MOST_DEPTH = 60


class NotJson(ValueError):
    """The text is no JSON, with or without comments."""


def plain(text: str) -> str:
    """Return the text without comments and commas before a closing bracket. Raises NotJson."""
    kept: list[str] = []
    at = 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank is not None and blank.end() > at:
            at = blank.end()
            kept.append(" ")
        elif text[at] == '"':
            end = _string_end(text, at)
            kept.append(text[at:end])
            at = end
        elif text[at] in "]}":
            while kept and kept[-1] in {" ", ","}:
                kept.pop()
            kept.append(text[at])
            at += 1
        else:
            kept.append(text[at])
            at += 1
    return "".join(kept)


def with_value(text: str, keys: Sequence[str], value: object) -> str:
    """Return the text of an object with this value at these keys. Raises NotJson."""
    if not plain(text).strip():
        text = "{}\n"
    start = _after_blank(text, 0)
    depth = 0
    while True:
        if start >= len(text) or text[start] != "{":
            raise NotJson(f"{'.'.join(keys[:depth]) or 'it'} is not an object")
        found = _find(text, start, keys[depth])
        if found is None:
            return _inserted(text, start, keys[depth], _nested(keys[depth + 1 :], value), depth + 1)
        if depth == len(keys) - 1:
            return text[: found[0]] + _shown(value, depth + 1) + text[found[1] :]
        start, depth = found[0], depth + 1


def _nested(keys: Sequence[str], value: object) -> object:
    for key in reversed(keys):
        value = {key: value}
    return value


def _shown(value: object, depth: int) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + "  " * depth)


def _inserted(text: str, start: int, key: str, value: object, depth: int) -> str:
    first = _after_blank(text, start + 1)
    is_empty = first < len(text) and text[first] == "}"
    member = f"\n{'  ' * depth}{json.dumps(key)}: {_shown(value, depth)}"
    end = f"\n{'  ' * (depth - 1)}" if is_empty and text[start + 1 : first].strip() == "" else ""
    if is_empty:
        inside = text[start + 1 : first].rstrip()
        return text[: start + 1] + inside + member + (end or "\n") + text[first:]
    return text[: start + 1] + member + "," + text[start + 1 :]


def _find(text: str, start: int, key: str) -> tuple[int, int] | None:
    """Return where the key's value begins and ends in the object that begins at `start`."""
    at = _after_blank(text, start + 1)
    while at < len(text) and text[at] != "}":
        end = _string_end(text, at)
        name = json.loads(text[at:end])
        colon = _after_blank(text, end)
        if text[colon : colon + 1] != ":":
            raise NotJson(f"there is no ':' after {name!r}")
        begin = _after_blank(text, colon + 1)
        end = _value_end(text, begin, 0)
        if name == key:
            return begin, end
        at = _after_blank(text, end)
        if text[at : at + 1] == ",":
            at = _after_blank(text, at + 1)
    return None


def _value_end(text: str, at: int, depth: int) -> int:
    if depth > _MOST_DEPTH:
        raise NotJson("it is nested too deeply")
    if at >= len(text):
        raise NotJson("it ends too early")
    if text[at] == '"':
        return _string_end(text, at)
    if text[at] in "{[":
        at = _after_blank(text, at + 1)
        while at < len(text) and text[at] not in "}]":
            at = at + 1 if text[at] in ",:" else _value_end(text, at, depth + 1)
            at = _after_blank(text, at)
        return at + 1
    found = _OTHER.match(text, at)
    if found is None:
        raise NotJson(f"{text[at]!r} is not expected")
    return found.end()


def _string_end(text: str, at: int) -> int:
    found = _STRING.match(text, at)
    if found is None:
        raise NotJson("a string has no end, or a key no quotes")
    return found.end()


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()
