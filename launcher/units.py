"""Parse and format bytes, token counts and lines of text."""

# Memory is counted in binary units (GiB) everywhere, as in llama.cpp's logs; a bare `128G` means GiB.

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_STEPS = (("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB))
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?P<kind>i?B?|B)", re.IGNORECASE)
_MOST_BYTES = 1 << 63  # llama.cpp counts buffers in size_t, files in off_t
_MOST_TOKENS = 1 << 31  # n_ctx as std::stoi reads it
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_BANDWIDTH = re.compile(r"(?P<number>[0-9]{1,6}(\.[0-9]{1,3})?)\s*(?P<unit>[GT])(B(/s)?)?", re.IGNORECASE)
_CONTEXT = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[kKmM]?)")


def format_bytes(n_bytes: int | None) -> str:
    """Format bytes for people: `19541073920` -> `"18.2 GiB"`, None -> `"?"`."""
    if n_bytes is None:
        return "?"
    sign, size = ("-", -n_bytes) if n_bytes < 0 else ("", n_bytes)
    for unit, step in _STEPS:
        if size >= step:
            return f"{sign}{size / step:.1f} {unit}"
    return f"{sign}{size} B"


def parse_size(text: str) -> int:
    """Parse `"128G"` or `"128GiB"` into bytes, in binary units. Raises UsageError for other text."""
    # "640GB" is binary too: nobody means 640e9 bytes of RAM
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"size {_short(text)} is not a number with K, M, G or T", hint="write it like 128G or 512M"
        )
    if not match["unit"] and not match["kind"] and float(match["number"]) > 0:
        # `--ram 32` means 32 GiB, and `-cram 8192` is 8192 MiB to llama-server: nobody means bytes
        raise UsageError(f"size {_short(text)} has no unit", hint=_with_units(match["number"]))
    size = float(match["number"]) * 1024 ** _POWER[match["unit"].upper()]
    if size >= _MOST_BYTES:
        raise UsageError(
            f"size {_short(text)} is more than any machine has", hint="write it like 128G or 512M"
        )
    return int(size)


def _with_units(number: str) -> str:
    short = number if len(number) <= 12 else "32"
    return f"{short}G for GiB, {short}M for MiB"


def parse_bandwidth(text: str) -> int:
    """Parse `"460G"` or `"460GB/s"` into bytes/s, in decimal units as makers name them. Raises UsageError."""
    match = _BANDWIDTH.fullmatch(text.strip())
    rate = float(match["number"]) * (1e12 if match["unit"].upper() == "T" else 1e9) if match else 0.0
    if not 1e9 <= rate < 1e14:
        raise UsageError(
            f"bandwidth {_short(text)} is not a number of GB/s from 1G to 99T", hint="write it like 460G"
        )
    return int(rate)


def parse_context(text: str) -> int:
    """Parse `"128k"` into 131072 tokens (1024 per k, as model cards count). Raises UsageError."""
    match = _CONTEXT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"context {_short(text)} is not a number of tokens", hint="write it like 32768 or 32k"
        )
    tokens = float(match["number"]) * {"": 1, "k": 1024, "m": 1024**2}[match["unit"].lower()]
    if tokens < 1:
        raise UsageError(f"context {_short(text)} is less than one token", hint="write it like 32768 or 32k")
    if tokens >= _MOST_TOKENS:
        raise UsageError(
            f"context {_short(text)} is more than the {_MOST_TOKENS - 1} tokens llama.cpp counts to",
            hint="write it like 32768 or 32k",
        )
    return int(tokens)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def format_rate(per_s: float) -> str:
    """Write a rate with two figures at least: `0.45`, `4.5`, `45`."""
    return f"{per_s:.{0 if per_s >= 10 else 1 if per_s >= 1 else 2}f}"


def format_count(n: int) -> str:
    """Format a number of parameters: `1026408232448` -> `"1.03T"`, `134515008` -> `"134.5M"`."""
    for unit, step in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if n >= step:
            return f"{n / step:.2f}{unit}" if unit == "T" else f"{n / step:.1f}{unit}"
    return str(n)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: `a`, `a and b`, `a, b and c`."""
    first, last = ", ".join(names[:-1]), "".join(names[-1:])
    return f"{first} and {last}" if first else last


def printable(text: str) -> str:
    """Return the text with ? for what is not printable: no escape sequence may reach a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def one_line(text: str, most: int = 400) -> str:
    """Return text from anywhere as one line, cut at `most` characters; what is not printable is escaped."""
    cut = text if len(text) <= most else f"{text[:most]}…"
    if cut.isprintable():
        return cut
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)
