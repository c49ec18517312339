"""Asking a server for some bytes of a file: redirects, who may see the token, and every failure as a `Trouble`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPResponse
from urllib.parse import urljoin

from launcher.models.transfer.connection import NETWORK_ERRORS, Connection, in_ascii, origin_of
from launcher.models.transfer.download import Download
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.response import REDIRECTS, find_trouble

_MOST_REDIRECTS = 6
_AGENT = {"Accept-Encoding": "identity", "User-Agent": "gguf-launcher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """A body that begins with the byte asked for, read from `line`. `link` is where redirects led, None without any;
    `version` is the server's word for the file's content, empty where it has none."""

    line: Connection
    body: HTTPResponse
    link: str | None
    version: str

    def read_into(self, buffer: memoryview) -> int | Trouble:
        """Bytes read, 0 at the end of the body."""
        try:
            return self.body.readinto(buffer)
        except NETWORK_ERRORS as error:
            return Trouble(kind=TroubleKind.BROKE, reason=_words(error))


def request_range(
    line: Connection, wanted: Download, link: str | None, begin: int, end: int
) -> RangeAnswer | Trouble:
    """Bytes [begin, end) of the file, from `link` where one is known, else from its own address."""
    try:
        body, url = _follow(line, wanted, link or wanted.url, begin, end)
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate is not trusted: {error.verify_message}"
        return Trouble(kind=TroubleKind.REFUSED, reason=reason)
    except NETWORK_ERRORS as error:
        return Trouble(kind=TroubleKind.BROKE, reason=_words(error))
    except ValueError:  # its words would quote the address, which may be a signed link
        return Trouble(kind=TroubleKind.BROKE, reason="it redirects to an address that cannot be used")
    headers = {name.lower(): value for name, value in body.getheaders()}
    redirected = url != wanted.url
    trouble = find_trouble(
        body.status,
        headers,
        url=url,
        redirected=redirected,
        position=begin,
        size_bytes=wanted.size_bytes,
        now=datetime.now(UTC),
    )
    version = headers.get("etag") or headers.get("last-modified") or ""
    return trouble or RangeAnswer(line=line, body=body, link=url if redirected else None, version=version)


def _follow(line: Connection, wanted: Download, url: str, begin: int, end: int) -> tuple[HTTPResponse, str]:
    """The answer from where `url` leads in the end, and that address."""
    whole = begin == 0 and end == wanted.size_bytes
    span = {} if whole else {"Range": f"bytes={begin}-{end - 1}"}
    for _ in range(_MOST_REDIRECTS):
        own = dict(wanted.headers) if origin_of(url) == origin_of(wanted.url) else {}
        body = line.get(url, _AGENT | span | own)
        location = body.getheader("Location")
        if body.status not in REDIRECTS or not location:
            break
        url = urljoin(url, in_ascii(location, "latin-1"))  # as http.client reads the bytes of a header
    return body, url


def _words(error: BaseException) -> str:
    """An error of the network in one line."""
    if isinstance(error, TimeoutError):
        return "it said nothing for too long"
    return (str(error).strip().splitlines() or [""])[0] or type(error).__name__
