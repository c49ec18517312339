"""Decide if a request may be answered at all: its key, its Host, its Origin, its path. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.engine.flags.listening import is_loopback
from launcher.gateway.replies import Problem

Headers = Mapping[bytes, bytes]

_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?")
_ORIGIN = re.compile(r"https?://(?P<host>.+)")

_OF_ITS_OWN = frozenset({b"same-origin", b"none"})  # none: typed by the user
_OTHER_ORIGIN = Problem(
    status=403, code="origin_refused", sentence="pages of other origins may not ask", should_retry=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the gateway lets in."""

    needs_key: bool  # other machines can reach it
    hosts: frozenset[str] = frozenset()  # names it is known by, besides this machine's loopback
    origins: frozenset[str] = frozenset()  # pages of these may ask


def find_problem(doors: Doors, headers: Headers, path: bytes, *, has_key: bool) -> Problem | None:
    """Return why the request is refused, None if it is not."""
    if _leads_elsewhere(path):
        return Problem(status=400, code="bad_path", sentence="the path is not plain", should_retry=False)
    if doors.needs_key and not has_key:
        sentence = "this gateway answers with a key only (Authorization: Bearer KEY)"
        return Problem(status=401, code="invalid_api_key", sentence=sentence, should_retry=False)
    if not doors.needs_key and not _is_known_host(doors, headers.get(b"host", b"")):
        # a page whose name leads here (DNS rebinding) has that name as Host
        sentence = "the Host header is not this machine's loopback address"
        return Problem(status=403, code="host_refused", sentence=sentence, should_retry=False)
    origin = headers.get(b"origin")
    if origin is not None and not _may_ask(doors, origin, headers.get(b"host", b"")):
        return _OTHER_ORIGIN
    if origin is None and path != b"/" and headers.get(b"sec-fetch-site", b"none") not in _OF_ITS_OWN:
        return _OTHER_ORIGIN  # an image or a link of another page: browsers send no Origin with those
    return None


def bearer(headers: Headers) -> str | None:
    """Return the key that a request carries: OpenAI's header or Anthropic's."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1").strip() or None


@functools.lru_cache(maxsize=64)
def _leads_elsewhere(path: bytes) -> bool:
    plain = _ESCAPE.sub(lambda found: bytes([int(found.group(1), 16)]), path)
    return (
        not path.startswith(b"/")
        or b"//" in plain
        or b"\\" in plain
        or any(part in {b".", b".."} for part in plain.split(b"/"))
        or any(byte < 0x20 or byte == 0x7F for byte in plain)
    )


def _is_known_host(doors: Doors, host: bytes) -> bool:
    return _is_loopback_host(host) or _name_of(host) in doors.hosts


@functools.lru_cache(maxsize=64)
def _is_loopback_host(host: bytes) -> bool:
    name = _name_of(host)
    return name is not None and is_loopback(name)


def _may_ask(doors: Doors, origin: bytes, host: bytes) -> bool:
    text = origin.decode("latin-1").lower()
    if text in doors.origins:
        return True
    found = _ORIGIN.fullmatch(text)
    return found is not None and found["host"].encode("latin-1") == host.lower()


def _name_of(host: bytes) -> str | None:
    found = _HOST.fullmatch(host.decode("latin-1").lower())
    return None if found is None else found["six"] or found["name"]
