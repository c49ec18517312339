"""Ask a web server: follow redirects, keep a token at its origin, make a `Trouble` of every failure."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urljoin, urlsplit, urlunsplit

from launcher.system.network.answer import REDIRECTS, ResponseHead
from launcher.system.network.connection import (
    NETWORK_ERRORS,
    Connection,
    UnreachableError,
    in_ascii,
    origin_of,
)
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.units import printable

_MOST_REDIRECTS = 6
_NUMBER = re.compile(r"^\[(Errno |SSL: )?[-\w]+\] ")  # of an error of the operating system or of OpenSSL
_LONGEST_REASON = 200
# identity: a range counts the file's own bytes, not compressed ones
_AGENT = {"Accept-Encoding": "identity", "User-Agent": "gguf-launcher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An address to read."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()  # a token: sent to the origin of `url` only


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """An answer whose body is not read."""

    connection: Connection
    body: HTTPResponse
    head: ResponseHead
    link: str | None  # where redirects led

    def read_into(self, buffer: memoryview) -> int | Trouble:
        """Fill the buffer; return how many bytes were read, 0 at the end of the body."""
        try:
            with self.connection.reading():
                return self.body.readinto(buffer)
        except NETWORK_ERRORS as error:
            return Trouble(kind=TroubleKind.BROKE, reason=_first_line(error))

    def read_some(self, most: int) -> bytes | Trouble:
        """Return what has come, at most `most` bytes; nothing at the end of the body."""
        try:
            with self.connection.reading():
                return self.body.read1(most)
        except NETWORK_ERRORS as error:
            return Trouble(kind=TroubleKind.BROKE, reason=_first_line(error))


def ask(
    connection_to: Callable[[str], Connection],
    resource: Resource,
    *,
    headers: Mapping[str, str],
    link: str | None = None,
) -> Answer | Trouble:
    """Ask for the resource, at `link` if one is known, else at its own address.

    The status is not judged. Raises UsageError for a proxy that cannot be used.
    """
    try:
        return _follow(connection_to, resource, headers, link or resource.url)
    except ssl.SSLCertVerificationError as error:
        return Trouble(kind=TroubleKind.DISTRUSTED, reason=error.verify_message)
    except UnreachableError as error:
        return Trouble(kind=TroubleKind.UNREACHABLE, reason=_first_line(error.__cause__ or error))
    except NETWORK_ERRORS as error:
        return Trouble(kind=TroubleKind.BROKE, reason=_first_line(error))
    except ValueError:  # its words would quote the address, which may be a signed link
        return Trouble(kind=TroubleKind.BROKE, reason="it redirects to an address that cannot be used")


def _follow(
    connection_to: Callable[[str], Connection], resource: Resource, headers: Mapping[str, str], url: str
) -> Answer | Trouble:
    for _ in range(_MOST_REDIRECTS + 1):
        connection = connection_to(url)
        at_home = origin_of(url) == origin_of(resource.url)
        # the token goes to the origin it is for, not to where that redirects; so do user and password
        own = dict(resource.headers) if at_home else {}
        body = connection.get(_with_user(url, resource.url) if at_home else url, {**_AGENT, **headers, **own})
        location = body.getheader("Location")
        if body.status not in REDIRECTS or not location:
            return _answer(connection, body, url, resource)
        target = urljoin(url, in_ascii(location, "latin-1"))  # as http.client reads the bytes of a header
        forbidden = why_forbidden(url, target)
        if forbidden is not None:
            return Trouble(kind=TroubleKind.REFUSED, reason=forbidden)
        url = target
    return Trouble(kind=TroubleKind.REFUSED, reason=f"it redirects more than {_MOST_REDIRECTS} times")


def _answer(connection: Connection, body: HTTPResponse, url: str, resource: Resource) -> Answer:
    redirected = url != resource.url
    lower = {name.lower(): value for name, value in body.getheaders()}
    head = ResponseHead(status=body.status, headers=lower, url=url, redirected=redirected)
    return Answer(connection=connection, body=body, head=head, link=url if redirected else None)


def why_forbidden(url: str, target: str) -> str | None:
    """Return why an answer of `url` may not send us to `target`; None if it may."""
    before, after = urlsplit(url).scheme, urlsplit(target).scheme
    if after not in {"http", "https"}:
        return f"it redirects to {after or 'nothing'}:, which is no web address"
    if (before, after) == ("https", "http"):
        return "it redirects from https to http, where anybody on the way can read and change the bytes"
    return None


def _with_user(url: str, own: str) -> str:
    """Return `url` with the user and password of `own`, an address of the same origin."""
    parts, user = urlsplit(url), urlsplit(own).netloc.rpartition("@")[0]
    if not user or "@" in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))


def _first_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it said nothing for too long"
    # http.client quotes what the server sent; the number of an error says nothing to a person
    words = _NUMBER.sub("", str(error).strip())
    line = (words.splitlines() or [""])[0][:_LONGEST_REASON] or type(error).__name__
    return printable(line)
