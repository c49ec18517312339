"""A kept-open connection to a web server, whose bodies are read straight into a buffer."""

from __future__ import annotations

import base64
import contextlib
import http.client
import string
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from ssl import SSLCertVerificationError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from launcher.errors import UsageError
from launcher.system.certificates import trusted_certificates
from launcher.units import KIB

_PORTS = {"http": 80, "https": 443}
_SMALL_BODY = 16 * KIB  # of a redirect or a refusal: reading it on is cheaper than another connection

NETWORK_ERRORS = (OSError, http.client.HTTPException)
"""What `get` and reading an answer raise when the network or the server fails."""


class UnreachableError(OSError):
    """No connection was made; the cause says why."""


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port."""
    # a token goes to its own origin only
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def in_ascii(address: str, encoding: str = "utf-8") -> str:
    """Return the address percent-encoded where it is not ASCII."""
    # all that is ASCII stays as it is: the signature of a link is of these very bytes
    return quote(address, safe=string.punctuation, encoding=encoding, errors="surrogateescape")


class Connection:
    """A connection to one server at a time. Not safe for threads, except `abort`."""

    # http.client and not httpx2: that hands bodies on as new bytes objects, and `readinto` fills one buffer
    # again and again (DESIGN.md has the figures); and nothing ends one of its reads from another thread.

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._origin: tuple[str, str, int] | None = None
        self._http: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._socket: socket | None = None  # http.client drops its own once an answer says it is the last
        self._proxy: _Proxy | None = None
        self.reading_since: float | None = None
        """When the read under way began, by `time.monotonic`; None: nothing is being read."""

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a GET and return the answer, its body not read. Redirects are not followed.

        Raises NETWORK_ERRORS, ValueError for an invalid address, UsageError for an unusable proxy.
        """
        parts = urlsplit(url)
        with self.reading():
            self._leave_last_answer()
            # http.client drops its socket after an answer that was said to be the last
            alive = self._http is not None and self._http.sock is not None
            reused = alive and self._origin == origin_of(url)
            if not reused:
                self.close()
                self._connect(parts, url)
            try:
                return self._request(parts, headers)
            except NETWORK_ERRORS as error:
                self.close()
                if not reused or isinstance(error, TimeoutError):
                    raise
            self._connect(parts, url)  # the server had closed the idle connection
            return self._request(parts, headers)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Note in `reading_since` that a read is under way."""
        self.reading_since = time.monotonic()
        try:
            yield
        finally:
            self.reading_since = None

    def close(self) -> None:
        connection, answer = self._http, self._answer
        self._http = self._answer = self._socket = None
        if connection is not None:
            connection.close()
        if answer is not None:
            answer.close()

    def abort(self) -> None:
        """End the connection from another thread: its reader gets what has come, then the end."""
        sock = self._socket
        # socket's own shutdown: SSLSocket's drops the decryption, and what is still to be read would be
        # handed on as it came over the wire
        if sock is not None:
            with contextlib.suppress(OSError):  # closed by its own thread a moment ago
                socket.shutdown(sock, SHUT_RDWR)

    def _leave_last_answer(self) -> None:
        """Read the body of a redirect or a refusal if it is small; close the connection on any other."""
        answer = self._answer
        if answer is None or answer.isclosed():
            return
        if answer.status in {200, 206} or answer.length is None or answer.length > _SMALL_BODY:
            self.close()
            return
        try:
            answer.read()
        except NETWORK_ERRORS:
            self.close()

    def _connect(self, parts: SplitResult, url: str) -> None:
        scheme, host, port = self._origin = origin_of(url)
        if scheme not in _PORTS or not host:
            raise UsageError(f"{scheme}://{host} is not a web address", hint="give an https:// address")
        self._proxy = proxy = _proxy_for(parts)
        at, at_port = (proxy.host, proxy.port) if proxy else (host, port)
        if scheme == "https":
            self._http = http.client.HTTPSConnection(
                at, at_port, timeout=self._patience_s, context=trusted_certificates()
            )
            if proxy:
                self._http.set_tunnel(host, port, headers=proxy.headers)
        else:
            self._http = http.client.HTTPConnection(at, at_port, timeout=self._patience_s)
        try:
            self._http.connect()
        except SSLCertVerificationError:
            self.close()
            raise
        except NETWORK_ERRORS as error:
            self.close()
            raise UnreachableError(str(error)) from error

    def _request(self, parts: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        assert self._http is not None  # noqa: S101 (_connect came before)
        target = in_ascii((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        all_headers = dict(headers)
        if parts.username is not None:
            all_headers["Authorization"] = _basic(parts.username, parts.password)
        # over https the proxy only tunnels (see `_connect`); over http it is asked for the whole address
        if self._proxy is not None and parts.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            all_headers |= self._proxy.headers
        self._socket = self._http.sock
        self._http.request("GET", target, headers=all_headers)
        self._answer = self._http.getresponse()
        return self._answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proxy:
    host: str
    port: int
    headers: dict[str, str]


def _proxy_for(parts: SplitResult) -> _Proxy | None:
    # HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, unless NO_PROXY excepts the host: as with httpx2 and curl
    proxies = getproxies()
    text = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.netloc.rpartition("@")[2]
    if not text or proxy_bypass(host):
        return None
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise UsageError(
            f"the proxy {proxy.scheme}://{proxy.hostname} is not of a kind that downloads can use",
            hint="set HTTPS_PROXY=http://host:port, or NO_PROXY for this host",
        )
    user, headers = proxy.username, {}
    if user is not None:
        headers["Proxy-Authorization"] = _basic(user, proxy.password)
    return _Proxy(host=proxy.hostname, port=proxy.port or 80, headers=headers)


def _basic(user: str, password: str | None) -> str:
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
