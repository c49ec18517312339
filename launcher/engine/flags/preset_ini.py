"""Read a file of router presets (`--models-preset`) as llama-server does. Pure.

Follows parse_ini_from_file and load_from_ini (common/preset.cpp at 0c1e570): a key begins its line, a value
ends at the first `;` or `#`, a section that comes again replaces the one before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.errors import UsageError

GLOBAL_SECTION = "*"
"""The section whose keys are those of every model."""

_UNNAMED = "default"  # COMMON_PRESET_DEFAULT_NAME: keys before the first section
MOST_SECTIONS = 256
_MOST_LINE = 1 << 13
_RESERVED_KEY = "version"  # for a later format; not read

_END = r"[ \t]*+(?:[;#][^\r\n]*)?(?:\r\n|\n|\r|\Z)"
_HEADER = re.compile(rf"\[[ \t]*+([^\]]+)\]{_END}")
_ENTRY = re.compile(
    r"([a-zA-Z_][a-zA-Z0-9_.-]*)[ \t]*+=[ \t]*+((?:[^;# \t\r\n]|[ \t]++(?![;#\r\n]|\Z))*+)" + _END
)
_NOTHING = re.compile(_END)
_TAG = re.compile(r"[-.]([A-Za-z0-9_]+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: the name of a model, and its keys without dashes."""

    name: str
    entries: tuple[tuple[str, str], ...]


def parse_presets(text: str, file: str) -> tuple[Section, ...]:
    """Return the sections by name, the order in which llama-server has them.

    Raises UsageError for a text that ends llama-server, or is larger than anybody's presets.
    """
    if any(len(line) > _MOST_LINE for line in text.splitlines()):
        raise UsageError(
            f"{file} has a line of more than {_MOST_LINE} characters", hint="presets have one key a line"
        )
    sections: dict[str, dict[str, str]] = {}
    current = _UNNAMED
    at = 0
    while at < len(text):
        if (line := _HEADER.match(text, at)) is not None:
            current = line[1]
            sections[current] = {}
        elif (line := _ENTRY.match(text, at)) is not None:
            if line[1] != _RESERVED_KEY:
                sections.setdefault(current, {})[line[1]] = line[2]
        elif (line := _NOTHING.match(text, at)) is None:
            raise _unreadable(text, at, file)
        at = line.end()
    if len(sections) > MOST_SECTIONS:
        raise UsageError(
            f"{file} has {len(sections)} sections, and {MOST_SECTIONS} are the most that are checked",
            hint="part the file",
        )
    named = {_model_name(name): entries for name, entries in sorted(sections.items())}
    return tuple(
        Section(name=name, entries=tuple(sorted(entries.items())))
        for name, entries in sorted(named.items())
        if entries or name != _UNNAMED
    )


def _unreadable(text: str, at: int, file: str) -> UsageError:
    number = text.count("\n", 0, at) + 1
    line = text[at : at + 80].partition("\n")[0]
    return UsageError(
        f"{file}, line {number}: llama-server reads no presets from {line!r}",
        hint="[NAME] or KEY = VALUE, from the first column on, the key without dashes",
    )


def _model_name(section: str) -> str:
    """Return the name that a section's model has: the quant after its colon in capital letters."""
    if section == GLOBAL_SECTION or ":" not in section:
        return section
    model, _, tag = section.rpartition(":")
    ending = _TAG.search(tag)  # canonical_tag (common/preset.cpp)
    return f"{model}:{(ending[1] if ending else tag).upper()}"
