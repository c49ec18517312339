"""Read TOML strictly: every key has a type and limits. Pure."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from typing import NoReturn

from launcher.errors import UsageError
from launcher.units import format_bytes, one_line, parse_size

TomlScalar = bool | int | float | str

_SHOWN = 60  # characters of a refused value that an error repeats
_MOST_IN_ERROR = 600  # characters of a key and what is wrong with it: both may be the file's own words


class TomlTable:
    """One table of a file. Readers take keys out; `finish` refuses those that are left.

    A missing key is a UsageError, except for the `optional_` readers. Limits are inclusive.
    """

    def __init__(self, values: Mapping[str, object], *, file: str, where: str = "") -> None:
        self._left = dict(values)
        self._known: list[str] = []
        self._file = file
        self._where = where  # the table's own path (`quants[2].wheel`), empty for the top of the file

    def text(self, key: str, *, pattern: str | None = None, like: str = "") -> str:
        # not empty; `pattern` must match all of it, and `like` is an example
        value = self._take(key)
        if not isinstance(value, str) or not value.strip():
            self._refuse(key, value, "a string that is not empty")
        if pattern is not None and re.fullmatch(pattern, value) is None:
            self._refuse(key, value, f"written like {like}")
        return value

    def optional_text(self, key: str, *, pattern: str | None = None, like: str = "") -> str | None:
        return self.text(key, pattern=pattern, like=like) if self.has(key) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings; empty if absent."""
        value = self._take(key) if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self._refuse(key, value, "a list of strings")
        return tuple(value)

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Read a list of one or more whole numbers."""
        value = self._take(key)
        whole = isinstance(value, list) and all(
            isinstance(item, int) and not isinstance(item, bool) and low <= item <= high for item in value
        )
        if not isinstance(value, list) or not value or not whole:
            self._refuse(key, value, f"a list of whole numbers from {low} to {high}")
        return tuple(value)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self._refuse(key, value, f"a whole number from {low} to {high}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        return self.integer(key, low, high) if self.has(key) else None

    def number(self, key: str, low: float, high: float) -> float:
        """Read an integer or a float; never nan or inf."""
        value = self._take(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self._refuse(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def optional_number(self, key: str, low: float, high: float) -> float | None:
        return self.number(key, low, high) if self.has(key) else None

    def size(self, key: str, low: int, high: int) -> int:
        """Read bytes: a whole number, or text like `"80 GiB"`."""
        value = self._take(key)
        try:
            n_bytes = parse_size(value) if isinstance(value, str) else value
        except (UsageError, ValueError, OverflowError):
            n_bytes = None
        if not isinstance(n_bytes, int) or isinstance(n_bytes, bool) or not low <= n_bytes <= high:
            limits = f"from {format_bytes(low)} to {format_bytes(high)}"
            self._refuse(key, value, f'a size like "80 GiB" or a number of bytes, {limits}')
        return n_bytes

    def optional_size(self, key: str, low: int, high: int) -> int | None:
        return self.size(key, low, high) if self.has(key) else None

    def optional_flag(self, key: str) -> bool | None:
        value = self._take(key) if self.has(key) else None
        if value is not None and not isinstance(value, bool):
            self._refuse(key, value, "true or false")
        return value

    def calendar_date(self, key: str) -> str:
        """Read a TOML date; return it as `2026-11-22`."""
        value = self._take(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            self._refuse(key, value, "a date like 2026-11-22, without quotes")
        return value.isoformat()

    def scalars(self, key: str) -> tuple[tuple[str, TomlScalar], ...]:
        """Read a table of plain values under any names."""
        value = self._take(key) if self.has(key) else {}
        if not isinstance(value, dict):
            self._refuse(key, value, "a table")
        for name, item in value.items():
            plain = isinstance(item, bool | int | float | str)
            if not plain or (isinstance(item, float) and not math.isfinite(item)):
                self._refuse(f"{key}.{name}", item, "a string, a finite number, true or false")
        return tuple(value.items())

    def table(self, key: str) -> TomlTable:
        value = self._take(key)
        if not isinstance(value, dict):
            self._refuse(key, value, "a table")
        return TomlTable(value, file=self._file, where=self._path(key))

    def optional_table(self, key: str) -> TomlTable | None:
        return self.table(key) if self.has(key) else None

    def tables(self, key: str) -> tuple[TomlTable, ...]:
        """Read an array of one or more tables; errors count them from 1."""
        value = self._take(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            self._refuse(key, value, f"one or more tables, each opened by [[{key}]]")
        return tuple(
            TomlTable(item, file=self._file, where=f"{self._path(key)}[{number}]")
            for number, item in enumerate(value, start=1)
        )

    def has(self, key: str) -> bool:
        # asked once, a key is known to `finish`
        if key not in self._known:
            self._known.append(key)
        return key in self._left

    def is_text(self, key: str, text: str) -> bool:
        return self.has(key) and self._left[key] == text

    def finish(self) -> None:
        """Raise UsageError for the first key that nobody took."""
        for key in self._left:
            raise UsageError(
                f"{self._file}: {one_line(self._path(key), _MOST_IN_ERROR)} is not a known key",
                hint=f"mend {self._file}: known keys here are {', '.join(self._known)}",
            )

    def fail(self, key: str, problem: str, *, hint: str | None = None) -> NoReturn:
        """Raise UsageError for the caller's reason: `fail("max", "is 0, but …")`."""
        shown = one_line(f"{self._path(key)} {problem}", _MOST_IN_ERROR)
        raise UsageError(f"{self._file}: {shown}", hint=hint or f"mend {self._file}")

    def _take(self, key: str) -> object:
        if not self.has(key):
            self.fail(key, "is missing")
        return self._left.pop(key)

    def _refuse(self, key: str, value: object, wanted: str) -> NoReturn:
        try:
            shown = repr(value)
        except ValueError:  # 0x…, of more digits than Python prints (sys.get_int_max_str_digits)
            shown = "a number of thousands of digits"
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        self.fail(key, f"is {shown}, not {wanted}")

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


def parse_toml(text: str, *, file: str) -> TomlTable:
    """Parse a TOML file into its top table. Raises UsageError, which names the line."""
    try:
        return TomlTable(tomllib.loads(text), file=file)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not TOML: {error}", hint=f"mend {file}") from error
    except ValueError as error:  # int(): more digits than Python reads (sys.get_int_max_str_digits)
        raise UsageError(
            f"{file} is not TOML: it has a number of thousands of digits", hint=f"mend {file}"
        ) from error
    except RecursionError as error:
        raise UsageError(f"{file} is not TOML: it is nested too deep", hint=f"mend {file}") from error
