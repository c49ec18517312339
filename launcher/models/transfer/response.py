"""Judge a server's answer to a ranged request: the right bytes, or which trouble. Pure."""

from __future__ import annotations

import contextlib
import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from launcher.models.transfer.failures import Trouble, TroubleKind

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})  # Request Timeout, Too Early, Too Many Requests
_GONE = frozenset({401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RATE_LIMIT = re.compile(r"r=0\s*;\s*t=(\d+)")  # of `RateLimit: "resolvers";r=0;t=55`, as the Hub sends it


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A server's answer without its body."""

    status: int
    headers: Mapping[str, str]  # by lower-case names
    url: str
    redirected: bool  # another address sent us to `url`


def find_trouble(head: ResponseHead, *, position: int, size_bytes: int, now: datetime) -> Trouble | None:
    """Return what is wrong with an answer; None if its body is the file's bytes from `position`."""
    if head.status in {200, 206}:
        wrong = _misfit(head.status, head.headers, position, size_bytes)
        if wrong is None:
            return None
        kind, reason = wrong
    else:
        kind, reason = _refusal(head.status, redirected=head.redirected), f"it answered {head.status}"
    return Trouble(
        kind=kind,
        reason=reason,
        status=head.status,
        headers=tuple(head.headers.items()),
        url=head.url,
        retry_after_s=retry_after_s(head.headers, now) if kind is TroubleKind.BUSY else None,
    )


def _misfit(
    status: int, headers: Mapping[str, str], position: int, size_bytes: int
) -> tuple[TroubleKind, str] | None:
    if headers.get("content-encoding", "identity") != "identity":
        return TroubleKind.REFUSED, "it sends the file compressed, which was not asked for"
    # a 206 must say which bytes it has; a 200 begins at the file's start
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if status == 206 and match is None:
        return TroubleKind.MISFIT, "it answers a range without saying which bytes these are"
    begin, total = (match[1], match[3]) if match else ("0", headers.get("content-length", ""))
    if total.isdecimal() and int(total) != size_bytes:
        return TroubleKind.MISFIT, f"the file has {total} bytes there, {size_bytes} were listed"
    if int(begin) == position:
        return None
    if status == 200:
        return TroubleKind.IGNORES_RANGES, "it ignores ranges"
    return TroubleKind.MISFIT, f"byte {position} was asked for, it sends byte {begin}"


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
        waits.append(float(text))
    elif text:
        with contextlib.suppress(ValueError, TypeError):  # neither: as if the header were not there
            waits.append(max(0.0, (email.utils.parsedate_to_datetime(text) - now).total_seconds()))
    return max(waits, default=None)
