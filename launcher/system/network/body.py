"""Read the body of an answer into memory: no more than it may have, no slower than it may be."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

from launcher.system.network.policy import Policy
from launcher.system.network.request import Answer
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.units import KIB, format_bytes

_AT_ONCE = 64 * KIB
_ANY_ZLIB = zlib.MAX_WBITS | 32  # gzip or zlib, whichever its first bytes say
_INFLATED = frozenset({"gzip", "x-gzip", "deflate"})


def read_span(answer: Answer, n_bytes: int, policy: Policy, *, skip: int = 0) -> bytes | Trouble:
    """Return `n_bytes` of the body after the first `skip`; trouble if it has fewer."""
    data, ahead = bytearray(), skip
    for piece in _pieces(answer, skip + n_bytes, policy):
        if isinstance(piece, Trouble):
            return piece
        data += piece[ahead:]
        ahead = max(0, ahead - len(piece))
    if len(data) < n_bytes:
        return _broke_off(len(data), n_bytes)
    return bytes(data)


def read_all(answer: Answer, most_bytes: int, policy: Policy) -> bytes | Trouble:
    """Return the whole body, decompressed; trouble if it has more than `most_bytes` in either form."""
    length = answer.head.length
    if length is not None and length > most_bytes:
        return _too_large(most_bytes)
    data = bytearray()
    for piece in _pieces(answer, most_bytes + 1, policy):
        if isinstance(piece, Trouble):
            return piece
        data += piece
    if len(data) > most_bytes:
        return _too_large(most_bytes)
    if length is not None and len(data) < length:
        return _broke_off(len(data), length)
    if not data:  # http.client takes headers that broke off for whole ones
        return Trouble(kind=TroubleKind.BROKE, reason="it sent nothing")
    return _decompressed(bytes(data), answer.head.headers.get("content-encoding", "identity"), most_bytes)


def _pieces(answer: Answer, n_bytes: int, policy: Policy) -> Iterator[bytes | Trouble]:
    """Yield the body up to `n_bytes`; trouble comes last."""
    arrived, counted, since = 0, 0, time.monotonic()
    while arrived < n_bytes:
        piece = answer.read_some(min(_AT_ONCE, n_bytes - arrived))
        if isinstance(piece, Trouble):
            yield piece
            return
        if not piece:
            return
        yield piece
        arrived += len(piece)
        if time.monotonic() - since >= policy.crawl_window_s:
            if arrived - counted < policy.crawl_bytes:
                yield Trouble(kind=TroubleKind.BROKE, reason="it sends next to nothing")
                return
            counted, since = arrived, time.monotonic()


def _decompressed(data: bytes, encoding: str, most_bytes: int) -> bytes | Trouble:
    if encoding == "identity":
        return data
    if encoding not in _INFLATED:
        reason = f"it sends the encoding {encoding[:20]!r}, which was not asked for"
        return Trouble(kind=TroubleKind.REFUSED, reason=reason)
    inflater = zlib.decompressobj(_ANY_ZLIB)
    try:
        plain = inflater.decompress(data, most_bytes + 1)
    except zlib.error as error:
        return Trouble(kind=TroubleKind.GARBLED, reason=f"it cannot be decompressed: {error}")
    if len(plain) > most_bytes:
        return _too_large(most_bytes)
    if not inflater.eof:
        return Trouble(kind=TroubleKind.BROKE, reason="what it sent compressed broke off")
    return plain


def _too_large(most_bytes: int) -> Trouble:
    reason = f"it sends more than {format_bytes(most_bytes)}"
    return Trouble(kind=TroubleKind.TOO_LARGE, reason=reason)


def _broke_off(arrived: int, expected: int) -> Trouble:
    reason = f"it broke off after {arrived} of {expected} bytes"
    return Trouble(kind=TroubleKind.BROKE, reason=reason)
