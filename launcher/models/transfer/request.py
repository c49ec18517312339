"""Ask a server for a range of a file; every failure becomes a `Trouble`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPResponse
from urllib.parse import urljoin

from launcher.models.transfer.connection import NETWORK_ERRORS, Connection, in_ascii, origin_of
from launcher.models.transfer.download import Download
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.response import REDIRECTS, ResponseHead, find_trouble

_MOST_REDIRECTS = 6
_AGENT = {"Accept-Encoding": "identity", "User-Agent": "gguf-launcher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """A body that begins with the byte asked for."""

    connection: Connection
    body: HTTPResponse
    link: str | None  # where redirects led
    version: str  # the server's ETag or date of the file, "" if it names none

    def read_into(self, buffer: memoryview) -> int | Trouble:
        """Fill the buffer; return the bytes read, 0 at the end of the body."""
        try:
            return self.body.readinto(buffer)
        except NETWORK_ERRORS as error:
            return Trouble(kind=TroubleKind.BROKE, reason=_first_line(error))


def request_range(
    connection: Connection, download: Download, link: str | None, begin: int, end: int
) -> RangeAnswer | Trouble:
    """Ask for bytes [begin, end), from `link` if one is known, else from the file's own address."""
    try:
        body, url = _follow(connection, download, link or download.url, begin, end)
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate is not trusted: {error.verify_message}"
        return Trouble(kind=TroubleKind.REFUSED, reason=reason)
    except NETWORK_ERRORS as error:
        return Trouble(kind=TroubleKind.BROKE, reason=_first_line(error))
    except ValueError:  # its words would quote the address, which may be a signed link
        return Trouble(kind=TroubleKind.BROKE, reason="it redirects to an address that cannot be used")
    headers = {name.lower(): value for name, value in body.getheaders()}
    redirected = url != download.url
    head = ResponseHead(status=body.status, headers=headers, url=url, redirected=redirected)
    trouble = find_trouble(head, position=begin, size_bytes=download.size_bytes, now=datetime.now(UTC))
    version = headers.get("etag") or headers.get("last-modified") or ""
    return trouble or RangeAnswer(
        connection=connection, body=body, link=url if redirected else None, version=version
    )


def _follow(
    connection: Connection, download: Download, url: str, begin: int, end: int
) -> tuple[HTTPResponse, str]:
    whole = begin == 0 and end == download.size_bytes
    span = {} if whole else {"Range": f"bytes={begin}-{end - 1}"}
    for _ in range(_MOST_REDIRECTS):
        # the token goes to the origin it is for, not to where that redirects
        own = dict(download.headers) if origin_of(url) == origin_of(download.url) else {}
        body = connection.get(url, _AGENT | span | own)
        location = body.getheader("Location")
        if body.status not in REDIRECTS or not location:
            break
        url = urljoin(url, in_ascii(location, "latin-1"))  # as http.client reads the bytes of a header
    return body, url


def _first_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it said nothing for too long"
    return (str(error).strip().splitlines() or [""])[0] or type(error).__name__
