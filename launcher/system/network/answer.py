"""Judge a server's answer: what was asked for, or which trouble. Pure."""

from __future__ import annotations

import contextlib
import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from launcher.system.network.trouble import Trouble, TroubleKind

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})  # Request Timeout, Too Early, Too Many Requests
_GONE = frozenset({401, 403, 404, 410})
# No file has more bytes than 19 digits say (off_t), and int() refuses 4301 digits.
_NUMBER = re.compile(r"[0-9]{1,19}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
_RATE_LIMIT = re.compile(
    r"r=0 ?; ?t=([0-9]{1,9})"
)  # of `RateLimit: "resolvers";r=0;t=55`, as the Hub sends it
_LONGEST_ASKED_S = 1e9  # thirty years, for a Retry-After of any length


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A server's answer without its body."""

    status: int
    headers: Mapping[str, str]  # by lower-case names
    url: str
    redirected: bool  # another address sent us to `url`

    @property
    def length(self) -> int | None:
        """The body's length, if the server says one that can be."""
        return _number(self.headers.get("content-length", ""))

    @property
    def range_begin(self) -> int:
        """The first byte of the file that the body has; judged by `find_range_trouble`."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return int(match[1]) if match else 0

    @property
    def file_size(self) -> int | None:
        """The size of the whole file, if the server says it."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return int(match[2]) if match else self.length

    @property
    def version(self) -> str:
        """The server's ETag or date of the file; empty if it names none."""
        return self.headers.get("etag") or self.headers.get("last-modified") or ""


def find_range_trouble(
    head: ResponseHead, *, position: int, size_bytes: int | None, now: datetime
) -> Trouble | None:
    """Return what is wrong with an answer; None if its body is the file's bytes from `position`.

    `size_bytes` is the file's size, None if it is not known yet.
    """
    if head.status not in {200, 206}:
        return find_trouble(head, now=now)
    wrong = _misfit(head, position, size_bytes)
    return None if wrong is None else _trouble(head, *wrong, now)


def find_trouble(head: ResponseHead, *, now: datetime) -> Trouble | None:
    """Return what is wrong with an answer; None if its status is 200."""
    if head.status == 200:
        return None
    kind = _refusal(head.status, redirected=head.redirected)
    return _trouble(head, kind, f"it answered {head.status}", now)


def _trouble(head: ResponseHead, kind: TroubleKind, reason: str, now: datetime) -> Trouble:
    return Trouble(
        kind=kind,
        reason=reason,
        status=head.status,
        headers=tuple(head.headers.items()),
        url=head.url,
        retry_after_s=retry_after_s(head.headers, now) if kind is TroubleKind.BUSY else None,
    )


def _misfit(head: ResponseHead, position: int, size_bytes: int | None) -> tuple[TroubleKind, str] | None:
    if head.headers.get("content-encoding", "identity") != "identity":
        return TroubleKind.REFUSED, "it sends the file compressed, which was not asked for"
    # a 206 must say which bytes it has; a 200 begins at the file's start
    if head.status == 206 and _CONTENT_RANGE.fullmatch(head.headers.get("content-range", "")) is None:
        return TroubleKind.VAGUE, "it answers a range without saying which bytes these are"
    if head.file_size is not None and size_bytes is not None and head.file_size != size_bytes:
        return TroubleKind.MISFIT, f"the file has {head.file_size} bytes there, {size_bytes} were listed"
    if head.range_begin == position:
        return None
    if head.status == 200:
        return TroubleKind.IGNORES_RANGES, "it ignores ranges"
    return TroubleKind.MISFIT, f"byte {position} was asked for, it sends byte {head.range_begin}"


def _refusal(status: int, *, redirected: bool) -> TroubleKind:
    if status in _LATER or status >= 500:
        return TroubleKind.BUSY
    if status == 416:
        return TroubleKind.MISFIT
    # behind a redirect, a signed link has expired; else the address itself refuses
    return TroubleKind.LINK if status in _GONE and redirected else TroubleKind.REFUSED


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that Retry-After or the Hub's RateLimit asks for."""
    waits = [float(text) for text in _RATE_LIMIT.findall(headers.get("ratelimit", ""))]
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        waits.append(min(float(text), _LONGEST_ASKED_S))
    elif text:
        # none that can be: as if the header were not there
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            waits.append(max(0.0, (email.utils.parsedate_to_datetime(text) - now).total_seconds()))
    return max(waits, default=None)


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
