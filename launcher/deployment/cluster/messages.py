"""Write and read what a rank and its head say to each other through ssh's pipes. Pure.

A rank says a line of JSON, `{"say": "ready"}`, `"well"` or `"lost"` with why. Its head says one byte now and
then, as long as it wants the rank.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.units import one_line

WANTED = b"."
LOADED = b"L"  # wanted, and its memory is in use from now on

BEAT_S = 2.0  # between two words of either
SILENCE_S = 9.0  # without a word the other is taken for lost; a cut cable ends ssh after 6 to 8 s

_MOST_LINE = 4 << 10
MOST_SAID = 300  # characters of a peer's sentence


class Word(StrEnum):
    READY = "ready"
    WELL = "well"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Message:
    word: Word
    why: str = ""


def format_message(word: Word, why: str = "") -> bytes:
    return json.dumps({"say": word, "why": why}).encode() + b"\n"


def read_message(line: bytes) -> Message | None:
    """Return what a rank says; None for anything else."""
    try:
        given = JsonObject(parse_json(line))
        why = given.optional_text("why") or ""
        return Message(given.choice("say", Word), one_line(why[: 4 * MOST_SAID], MOST_SAID))
    except Malformed:
        return None


class LineBuffer:
    """The lines of a peer, whole as they come in; what is longer than any message is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MOST_LINE:]
        return [line for line in lines if 0 < len(line) <= _MOST_LINE]
