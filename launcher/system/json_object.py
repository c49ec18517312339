"""Read a JSON object strictly: every field by name, type and bounds. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

MAX_WHOLE = 1 << 62

# Files may be damaged or written to do harm: no field is larger than anything this program writes.
_MAX_TEXT = 1 << 20
_MAX_ITEMS = 1 << 16

_Kind = TypeVar("_Kind", bound=StrEnum)
_Item = TypeVar("_Item")


class Malformed(ValueError):
    """A field that is missing, of the wrong type or out of bounds."""

    # the text is a sentence


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text. Raises Malformed for any other, and for one nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not JSON: {error}") from error


def parse_document(text: str | bytes, schema: int) -> JsonObject:
    """Parse a JSON object of this schema. Raises Malformed for any other."""
    given = JsonObject(parse_json(text))
    if given.whole("schema") != schema:
        raise Malformed("it is of another schema")
    return given


class JsonObject:
    """One object of a JSON document. Readers raise Malformed, naming the field."""

    # A field that is null counts as absent. Fields that nobody reads are ignored: a later version of this
    # program may add some.

    def __init__(self, values: object, where: str = "") -> None:
        if not isinstance(values, dict):
            raise Malformed(f"{where or 'it'} is not an object")
        self._values: dict[str, object] = values
        self._where = where  # the object's own path (`placement`), empty for the document itself

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def malformed(self, key: str, problem: str) -> Malformed:
        """Return the error for a field that its reader refuses."""
        return Malformed(f"{self._where}.{key} {problem}" if self._where else f"{key} {problem}")

    def text(self, key: str) -> str:
        value = _text(self._values.get(key))
        if value is None:
            raise self.malformed(key, "is not a text")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if self.has(key) else None

    def texts(self, key: str) -> tuple[str, ...]:
        return self._items(key, _text, "texts")

    def whole(self, key: str, low: int = 0, high: int = MAX_WHOLE) -> int:
        value = _whole(self._values.get(key), -MAX_WHOLE, MAX_WHOLE)
        if value is None or (value < low == 0):
            raise self.malformed(key, "is not a whole number")
        if not low <= value <= high:
            raise self.malformed(key, f"is {value}, not from {low} to {high}")
        return value

    def optional_whole(self, key: str, low: int = 0, high: int = MAX_WHOLE) -> int | None:
        return self.whole(key, low, high) if self.has(key) else None

    def wholes(self, key: str, low: int, high: int) -> tuple[int, ...]:
        return self._items(key, lambda value: _whole(value, low, high), f"whole numbers from {low} to {high}")

    def wholes_by_key(self) -> dict[str, int]:
        """Return the whole object, whose values are all whole numbers."""
        return {key: self.whole(key) for key in self._values}

    def texts_by_key(self) -> dict[str, str]:
        """Return the whole object, whose values are all texts."""
        return {key: self.text(key) for key in self._values}

    def number(self, key: str) -> float:
        """Return a finite number that is not negative."""
        value = self._values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WHOLE:
            raise self.malformed(key, "is not a number")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if not isinstance(value, bool):
            raise self.malformed(key, "is neither true nor false")
        return value

    def choice(self, key: str, kinds: type[_Kind]) -> _Kind:
        value = self.text(key)
        if value not in set(kinds):
            raise self.malformed(key, f"is {value[:60]!r}, not one of {', '.join(kinds)}")
        return kinds(value)

    def mapping(self, key: str) -> dict[str, Any]:
        # for a reader of its own
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.malformed(key, "is not an object")
        return value

    def value(self, key: str) -> object:
        """Return whatever is there, for a reader of its own."""
        return self._values.get(key)

    def list_at(self, key: str) -> tuple[object, ...]:
        """Return a list as it is, for a reader of its own."""
        return tuple(value for (value,) in self._items(key, lambda value: (value,), "values"))

    def object_at(self, key: str) -> JsonObject:
        return JsonObject(self._values.get(key), f"{self._where}.{key}" if self._where else key)

    def objects_at(self, key: str) -> tuple[JsonObject, ...]:
        values = self._items(key, _object, "objects")
        path = f"{self._where}.{key}" if self._where else key
        return tuple(JsonObject(value, f"{path}[{index}]") for index, value in enumerate(values))

    def _items(self, key: str, read: Callable[[object], _Item | None], kind: str) -> tuple[_Item, ...]:
        value = self._values.get(key)
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise self.malformed(key, f"is not a list of {kind}")
        items = [item for each in value if (item := read(each)) is not None]
        if len(items) != len(value):
            raise self.malformed(key, f"is not a list of {kind}")
        return tuple(items)


def _text(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return None
    # JSON can hold half of a surrogate pair, which no file or terminal takes.
    return value if not any("\ud800" <= char <= "\udfff" for char in value) else None


def _whole(value: object, low: int, high: int) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        return None
    return value


def _object(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None
