"""Set values in a settings file's text, and prove that nothing else in it changed. Pure."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w
import yaml

from launcher.gateway.connect.clients import Client, Endpoint, Form, Setting
from launcher.gateway.connect.jsonc import NotJson, plain, with_value

_ENV_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)$")


class CannotEdit(ValueError):
    """The file is not what this program's settings look like, or cannot be edited without a loss."""


def edited(client: Client, at: Endpoint, text: str) -> str:
    """Return the file's new text. Raises CannotEdit; then the settings have to be put in by hand."""
    settings = client.settings(at)
    text = text if text.strip() else client.begin
    try:
        before = parse(client.form, text)
        expected = merged(before, settings, client.list_at)
        after = _edit(client, settings, text)
        if parse(client.form, after) != expected:
            raise CannotEdit("it cannot be edited without changing other settings in it")
    except (ValueError, RecursionError, yaml.YAMLError, NotJson) as error:
        raise CannotEdit(str(error).splitlines()[0][:200]) from error
    return after


def snippet(client: Client, at: Endpoint) -> str:
    """Return the settings alone, as they stand in a file without others."""
    return edited(client, at, "")


def parse(form: Form, text: str) -> Any:
    match form:
        case Form.JSON:
            return json.loads(plain(text) if plain(text).strip() else "null")
        case Form.YAML:
            return yaml.safe_load(text)
        case Form.TOML:
            return tomllib.loads(text)
        case _:
            found = (_ENV_LINE.match(line) for line in text.splitlines())
            return {each[1]: each[2].strip() for each in found if each is not None}


def merged(before: Any, settings: Sequence[Setting], list_at: tuple[str, ...] | None) -> Any:
    """Return what the file should say: all it said, and the settings."""
    after = copy.deepcopy(before)
    if after is None:
        after = [] if list_at == () else {}
    for keys, value in settings:
        if list_at is not None:
            items = _inner(after, list_at, list)
            items[:] = [value, *(item for item in items if _name_of(item) != keys[-1])]
        else:
            _inner(after, keys[:-1], dict)[keys[-1]] = value
    return after


def _inner(value: Any, keys: Sequence[str], kind: type[list[Any] | dict[str, Any]]) -> Any:
    """Return what is at these keys, made where it is missing. Raises CannotEdit."""
    for i, key in enumerate(keys):
        if not isinstance(value, dict):
            raise CannotEdit(f"{'.'.join(keys[:i]) or 'it'} is not a mapping")
        if value.get(key) is None:
            value[key] = kind() if i == len(keys) - 1 else {}
        value = value[key]
    if not isinstance(value, kind):
        raise CannotEdit(f"{'.'.join(keys) or 'it'} is not a {'list' if kind is list else 'mapping'}")
    return value


def _name_of(item: object) -> object:
    return item.get("name") if isinstance(item, dict) else None


def _edit(client: Client, settings: Sequence[Setting], text: str) -> str:
    match client.form:
        case Form.JSON if client.list_at == ():
            if text.strip() and _has_comments(text):
                raise CannotEdit("it has comments, which would be lost")
            return (
                json.dumps(merged(parse(Form.JSON, text), settings, ()), indent=2, ensure_ascii=False) + "\n"
            )
        case Form.JSON:
            for keys, value in settings:
                text = with_value(text, keys, value)
            return text
        case Form.YAML:
            return _edit_yaml(settings, text)
        case Form.TOML:  # a file of our own
            return tomli_w.dumps(merged(parse(Form.TOML, text), settings, None))
        case _:
            return _edit_env(settings, text)


def _has_comments(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _edit_env(settings: Sequence[Setting], text: str) -> str:
    lines = text.splitlines()
    for (name,), value in settings:
        line = f"{name}={value}"
        at = next((i for i, old in enumerate(lines) if (m := _ENV_LINE.match(old)) and m[1] == name), None)
        if at is None:
            lines.append(line)
        else:
            lines[at] = line
    return "\n".join(lines) + "\n"


# ---- YAML: lines are put in, for comments have to stay ----


def _edit_yaml(settings: Sequence[Setting], text: str) -> str:
    for keys, value in settings:
        text = _set_scalar(text, keys[0], value) if len(keys) == 1 else _set_item(text, keys, value)
    return text


def _set_scalar(text: str, key: str, value: object) -> str:
    line = f"{key}: {json.dumps(value)}"
    found = re.search(rf"^{re.escape(key)}\s*:[^\n]*$", text, re.MULTILINE)
    if found is not None:
        return text[: found.start()] + line + text[found.end() :]
    return _ended(text) + line + "\n"


def _set_item(text: str, keys: Sequence[str], value: object) -> str:
    *path, name = keys
    text = _without_item(text, name)
    lines, at, indent = text.splitlines(), 0, 0
    for depth, key in enumerate(path):
        found = next(
            (
                i
                for i in range(at, len(lines))
                if re.match(rf"^ {{{indent}}}{re.escape(key)}\s*:\s*(#.*|\[\]\s*)?$", lines[i])
            ),
            None,
        )
        if found is None:
            new = [f"{' ' * (indent + 2 * i)}{each}:" for i, each in enumerate(path[depth:])]
            where = at if depth else len(lines)
            return (
                "\n".join([*lines[:where], *new, *_item(value, indent + 2 * len(new)), *lines[where:]]) + "\n"
            )
        lines[found] = re.sub(r":\s*\[\]\s*$", ":", lines[found])
        at = found + 1
        inner = next((line for line in lines[at:] if line.strip() and not line.lstrip().startswith("#")), "")
        inner_indent = len(inner) - len(inner.lstrip())
        is_list_here = depth == len(path) - 1 and inner.lstrip().startswith("-")
        indent = (
            inner_indent if inner_indent > indent or (is_list_here and inner_indent == indent) else indent + 2
        )
    return "\n".join([*lines[:at], *_item(value, indent), *lines[at:]]) + "\n"


def _without_item(text: str, name: str) -> str:
    """Drop the lines of an item that an earlier run put in."""
    lines = text.splitlines()
    mark = json.dumps(name)
    at = next((i for i, line in enumerate(lines) if line.strip() == f"- name: {mark}"), None)
    if at is None:
        return text
    indent = len(lines[at]) - len(lines[at].lstrip())
    end = at + 1
    while end < len(lines) and lines[end].startswith(" " * (indent + 1)) and lines[end].strip():
        end += 1
    return "\n".join([*lines[:at], *lines[end:]]) + "\n"


def _item(value: object, indent: int) -> list[str]:
    """Return an item of a list as lines, the insides in JSON, which YAML takes."""
    if not isinstance(value, Mapping):
        raise CannotEdit("an item is no mapping")
    pairs = [f"{key}: {json.dumps(each)}" for key, each in value.items()]
    pad = " " * indent
    return [f"{pad}- {pairs[0]}", *(f"{pad}  {pair}" for pair in pairs[1:])]


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
