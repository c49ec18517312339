"""What a server's answer to a ranged request means: bytes from where, or which trouble. Pure."""

from __future__ import annotations

import contextlib
import email.utils
import re
from collections.abc import Mapping
from datetime import datetime

from launcher.models.transfer.failures import Trouble, TroubleKind

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})
_GONE = frozenset({401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RATE_LIMIT = re.compile(r"r=0\s*;\s*t=(\d+)")  # of `RateLimit: "resolvers";r=0;t=55`, as the Hub sends it


def find_trouble(
    status: int,
    headers: Mapping[str, str],
    *,
    url: str,
    redirected: bool,
    position: int,
    size_bytes: int,
    now: datetime,
) -> Trouble | None:
    """None where the body is the file's bytes from `position` on. `redirected`: another address sent us to `url`."""
    if status in {200, 206}:
        wrong = _misfit(status, headers, position, size_bytes)
        if wrong is None:
            return None
        kind, reason = wrong
    else:
        kind, reason = _refusal(status, redirected=redirected), f"it answered {status}"
    return Trouble(
        kind=kind,
        reason=reason,
        status=status,
        headers=tuple(headers.items()),
        url=url,
        retry_after_s=retry_after_s(headers, now) if kind is TroubleKind.BUSY else None,
    )


def _misfit(
    status: int, headers: Mapping[str, str], position: int, size_bytes: int
) -> tuple[TroubleKind, str] | None:
    """What is wrong with bytes that came. A 206 must say which they are, a 200 begins at the file's start."""
    if headers.get("content-encoding", "identity") != "identity":
        return TroubleKind.REFUSED, "it sends the file compressed, which was not asked for"
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
    return TroubleKind.LINK if status in _GONE and redirected else TroubleKind.REFUSED


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long the server asks to wait: Retry-After as seconds or as a date, or the Hub's RateLimit."""
    said = [float(text) for text in _RATE_LIMIT.findall(headers.get("ratelimit", ""))]
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        said.append(float(text))
    elif text:
        with contextlib.suppress(ValueError, TypeError):  # neither: as if it had said nothing
            said.append(max(0.0, (email.utils.parsedate_to_datetime(text) - now).total_seconds()))
    return max(said, default=None)
