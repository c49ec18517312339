"""Tell a text that only repeats itself. Pure."""

from __future__ import annotations

_LOOKED_AT = 2400  # letters at the end
_LEAST_TIMES = 4  # that something is said again
_LEAST_LETTERS = 240  # that are nothing but the same: a table's ruler or `ha ha ha` is shorter
_LONGEST = _LOOKED_AT // _LEAST_TIMES


def is_looping(text: str) -> bool:
    """Tell if the end of a text is the same passage over and over."""
    tail = text[-_LOOKED_AT:]
    for period in range(1, _LONGEST + 1):
        n_letters = max(_LEAST_LETTERS, period * _LEAST_TIMES)
        if n_letters > len(tail):
            break
        end = tail[-n_letters:]
        if end[period:] == end[:-period] and end.strip():
            return True
    return False
