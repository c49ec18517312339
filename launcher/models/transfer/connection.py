"""One connection to a web server, kept open between requests: ranged GETs whose bodies go straight into a buffer.

http.client and not httpx2, which the rest of the program uses: httpx2 hands bodies on as new bytes objects, and
`readinto` fills one buffer again and again (DESIGN.md has the figures). Proxies and certificate authorities come from
the environment, as with httpx2 and curl. Redirects are not followed here.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import string
from collections.abc import Mapping
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from launcher.errors import UsageError
from launcher.system.certificates import trusted_certificates

_PORTS = {"http": 80, "https": 443}

NETWORK_ERRORS = (OSError, http.client.HTTPException)
"""What `get` and reading an answer raise when the network or the server fails."""


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: who a token may be told to."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def in_ascii(address: str, encoding: str = "utf-8") -> str:
    """What goes over the wire of an address as a person or a server wrote it. All that is ASCII stays as it is: the
    signature of a link is of these very bytes."""
    return quote(address, safe=string.punctuation, encoding=encoding, errors="surrogateescape")


class Connection:
    """Not for several threads, but for `abort`."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._origin: tuple[str, str, int] | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._through: _Proxy | None = None
        self.reading_since: float | None = None
        """When the read under way began, on the clock of its reader; None: nothing is being read."""

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The answer, its body not read. Raises NETWORK_ERRORS; ValueError for an address that is none; UsageError for a
        proxy that cannot be used."""
        if self._answer is not None and not self._answer.isclosed():
            self.close()  # its body was not read to the end
        parts = urlsplit(url)
        reused = self._origin == origin_of(url) and self._connection is not None
        if not reused:
            self.close()
            self._connect(parts, url)
        try:
            return self._ask(parts, headers)
        except NETWORK_ERRORS:
            self.close()
            if not reused:
                raise
        self._connect(parts, url)  # the server had closed the idle connection
        return self._ask(parts, headers)

    def close(self) -> None:
        connection, self._connection, self._answer = self._connection, None, None
        if connection is not None:
            connection.close()

    def abort(self) -> None:
        """From another thread: whoever reads from it gets what has come, and then the end. The socket's own shutdown: an
        SSLSocket's drops the decryption, and what is still to be read would be handed on as it came over the wire."""
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):  # closed by its own thread a moment ago
                socket.shutdown(sock, SHUT_RDWR)

    def _connect(self, parts: SplitResult, url: str) -> None:
        scheme, host, port = self._origin = origin_of(url)
        if scheme not in _PORTS or not host:
            raise UsageError(f"{scheme}://{host} is not a web address", hint="give an https:// address")
        self._through = proxy = _proxy_for(parts)
        at, at_port = (proxy.host, proxy.port) if proxy else (host, port)
        if scheme == "https":
            self._connection = http.client.HTTPSConnection(
                at, at_port, timeout=self._patience_s, context=trusted_certificates()
            )
            if proxy:
                self._connection.set_tunnel(host, port, headers=proxy.headers)
        else:
            self._connection = http.client.HTTPConnection(at, at_port, timeout=self._patience_s)

    def _ask(self, parts: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        assert self._connection is not None  # noqa: S101 (_connect came before)
        target = in_ascii((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        sent = dict(headers)
        if parts.username is not None:
            sent["Authorization"] = _basic(parts.username, parts.password)
        if self._through is not None and parts.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            sent |= self._through.headers
        self._connection.request("GET", target, headers=sent)
        self._answer = self._connection.getresponse()
        return self._answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proxy:
    host: str
    port: int
    headers: dict[str, str]


def _proxy_for(parts: SplitResult) -> _Proxy | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, unless NO_PROXY excepts the host."""
    known = getproxies()
    text = known.get(parts.scheme) or known.get("all")
    host = parts.netloc.rpartition("@")[2]
    if not text or proxy_bypass(host):
        return None
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise UsageError(
            f"the proxy {proxy.scheme}://{proxy.hostname} is not of a kind that downloads can use",
            hint="set HTTPS_PROXY=http://host:port, or NO_PROXY for this host",
        )
    named = {} if proxy.username is None else {"Proxy-Authorization": _basic(proxy.username, proxy.password)}
    return _Proxy(host=proxy.hostname, port=proxy.port or 80, headers=named)


def _basic(user: str, password: str | None) -> str:
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
