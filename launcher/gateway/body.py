"""Find a few fields of a JSON object in its first bytes, and put others in front. Pure.

A request's body can be many megabytes of images; routing needs `model` and `stream`, and reads no further.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

_STRUCTURE = re.compile(rb'["{}\[\],]')
_BELOW = re.compile(rb'["{}\[\]]')  # what matters inside of a value
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # to its end, or to a \ that is the last byte
_WHITE = b" \t\r\n"
_MOST_VALUE_BYTES = 4096  # of a value that is looked for; the name of a model is shorter


class TopLevelFields:
    """A reader of a JSON object's own fields that is fed bytes as they come.

    It looks for the first value of each field and does not check that the rest is JSON.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self.found: dict[str, object] = {}
        self.ended = False  # the object is closed, or it is none
        self._wanted = frozenset(wanted)
        self._bytes = bytearray()
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._string_from = 0
        self._key: str | None = None
        self._value_from: int | None = None

    @property
    def is_done(self) -> bool:
        return self.ended or self._wanted <= self.found.keys()

    def feed(self, block: bytes) -> None:
        """Read on, until all is found or the object ends."""
        self._bytes += block
        while not self.is_done and self._step():
            pass

    def _step(self) -> bool:
        """Go to the next character that matters; return False if more bytes are needed."""
        if self._in_string:
            return self._end_string()
        match = (_STRUCTURE if self._depth < 2 else _BELOW).search(self._bytes, self._at)
        if match is None:
            if not self._depth and self._bytes[self._at :].strip(_WHITE):
                self.ended = True  # it is no object
            self._at = len(self._bytes)
            return False
        at, self._at = match.start(), match.end()
        mark = match.group()
        if mark == b'"':
            self._in_string, self._string_from = True, at
        elif mark in {b"{", b"["}:
            if not self._depth and (mark == b"[" or self._bytes[:at].strip(_WHITE)):
                self.ended = True
            self._depth += 1
        elif mark == b",":
            if self._depth == 1:
                self._end_value(at)
        else:
            if self._depth == 1:
                self._end_value(at)
                self.ended = True
            self._depth -= 1
        return True

    def _end_string(self) -> bool:
        match = _STRING.match(self._bytes, self._at)
        end = self._at if match is None else match.end()
        if self._bytes[end : end + 1] != b'"':
            self._at = end  # the rest has not come yet
            return False
        self._in_string, self._at = False, end + 1
        if self._depth == 1 and self._key is None:
            self._begin_value(end + 1)
        return True

    def _begin_value(self, at: int) -> None:
        if at - self._string_from <= _MOST_VALUE_BYTES:
            key = _parse(self._bytes[self._string_from : at])
            self._key = key if isinstance(key, str) else ""
        else:
            self._key = ""
        self._value_from = at

    def _end_value(self, at: int) -> None:
        key, begin = self._key, self._value_from
        self._key = self._value_from = None
        if key is None or begin is None or key not in self._wanted or key in self.found:
            return
        text = self._bytes[begin:at].strip(_WHITE)
        if text.startswith(b":") and len(text) <= _MOST_VALUE_BYTES:
            self.found[key] = _parse(text[1:])


def fields_of(body: bytes, wanted: Collection[str]) -> dict[str, object]:
    """Return what a reader finds in a whole body, sooner: of a few kB all that is in it is parsed."""
    try:
        fields = json.loads(body, object_pairs_hook=_with_the_first)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        reader = TopLevelFields(wanted)
        reader.feed(body)
        return reader.found
    return {name: fields[name] for name in wanted if name in fields}


def _with_the_first(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return dict(reversed(pairs))  # of two fields of one name


def _parse(text: bytes | bytearray) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def with_defaults(body_begin: bytes, defaults: Mapping[str, object]) -> bytes:
    """Put fields at the beginning of the JSON object that begins so; the client's own come later and win.

    llama-server keeps the last of two fields of one name (nlohmann::json).
    """
    if not defaults:
        return body_begin
    blank = len(body_begin) - len(body_begin.lstrip(_WHITE))
    rest = body_begin[blank + 1 :]
    inner = json.dumps(dict(defaults), separators=(",", ":")).encode()[1:-1]
    comma = b"" if rest.lstrip(_WHITE)[:1] in {b"}", b""} else b","
    return body_begin[:blank] + b"{" + inner + comma + rest
