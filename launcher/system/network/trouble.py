"""Kinds of trouble with a network read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TroubleKind(StrEnum):
    UNREACHABLE = "unreachable"  # no connection: no such name, nobody listens, no TLS
    BROKE = "broke"  # reset, silence, next to nothing, a body shorter than it should be
    BUSY = "busy"  # 408, 425, 429, 5xx: later
    LINK = "link"  # what the address redirected to refuses: a signed link that has expired
    IGNORES_RANGES = "ignores ranges"  # 200 and the file from its start
    VAGUE = "vague"  # 206 that does not say which bytes it has
    MISFIT = "misfit"  # another size than listed, another range than asked for
    GARBLED = "garbled"  # a body that does not parse
    REFUSED = "refused"  # the address itself says no, or leads where it must not: final
    DISTRUSTED = "distrusted"  # the certificate is not trusted, and `reason` says why: final
    TOO_LARGE = "too large"  # more than a read of this kind takes: final
    CHANGED = "changed"  # another version than a moment ago: final
    HASH = "hash"  # all bytes are here and their sha256 is another: decided by the caller


_FINAL = frozenset(
    {
        TroubleKind.REFUSED,
        TroubleKind.DISTRUSTED,
        TroubleKind.TOO_LARGE,
        TroubleKind.CHANGED,
        TroubleKind.HASH,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failure of a request."""

    kind: TroubleKind
    reason: str
    status: int | None = None  # the answer's, if there was one; so are `headers`
    headers: tuple[tuple[str, str], ...] = ()
    url: str = ""  # who gave the answer
    retry_after_s: float | None = None

    @property
    def is_final(self) -> bool:
        # another try would end the same
        return self.kind in _FINAL
