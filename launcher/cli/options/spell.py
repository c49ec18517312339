"""Write options of a bundle as they are typed, to print a command that works."""

from __future__ import annotations

import dataclasses
import shlex
from enum import Enum
from typing import Any, get_type_hints

from launcher.models.url_secrets import strip_word_secrets
from launcher.units import GIB, MIB, parse_size


def spell(*bundles: Any) -> list[str]:
    """Return the words that give each bundle's options that are not at their defaults."""
    return [
        word
        for bundle in bundles
        for field, option in _options(type(bundle))
        if (value := getattr(bundle, field.name)) != field.default
        for word in _words(option, value)
    ]


def command_line(words: list[str], flags: tuple[str, ...] = ()) -> str:
    """Quote a command for a shell, with llama-server's own flags last. Secrets of URLs are left out."""
    typed = [*words, "--", *flags] if flags else words
    return shlex.join(strip_word_secrets(word) for word in typed)


def _options(bundle: type) -> list[tuple[Any, Any]]:
    hints = get_type_hints(bundle, include_extras=True)
    return [(field, hints[field.name].__metadata__[0]) for field in dataclasses.fields(bundle)]


def _words(option: Any, value: Any) -> list[str]:
    name = option.default  # in an Annotated, typer keeps the first spelling there
    if value is True:
        return [name]
    values = value if isinstance(value, list) else [value]
    write = _size if option.parser is parse_size else _plain
    return [word for each in values for word in (name, write(each))]


def _plain(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _size(n_bytes: int) -> str:
    for letter, step in (("G", GIB), ("M", MIB)):
        if n_bytes and n_bytes % step == 0:
            return f"{n_bytes // step}{letter}"
    return f"{n_bytes}B"
