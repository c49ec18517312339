"""Listen: uvicorn, with limits on what a client may send before it is asked who it is."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httptools
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from launcher.deployment.ports import check_port
from launcher.errors import UsageError

_MOST_HEAD_BYTES = 64 << 10
_HEAD_S = 10.0  # from the first byte of a request, or of the connection, to the end of its headers
_UNREAD_S = 120.0  # in which a client has to take what waits for it: it holds a place at its model
_MOST_CONNECTIONS = 1000
_LEAVE_S = 5  # for answers under way, when the gateway ends
_BACKLOG = 512


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what no application sees.

    Headers, trailers, a body that nobody reads, and an answer that nobody takes.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0  # since the last piece of a body: of headers, trailers, or a chunk's extensions
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._upgrades = False
        self._cycles: list[RequestResponseCycle] = []  # requests of this connection under way, and waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)
        for cycle in self._cycles:  # uvicorn tells the last request only that its client is gone
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        if self._in_head and self._deadline is None:
            self._arm()
        # what comes after the headers in the same packet is no more than a packet
        if self._head_bytes > _MOST_HEAD_BYTES and len(data) < _MOST_HEAD_BYTES:
            self._refuse()
            return
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        # Java's client, JetBrains' for one, asks for HTTP/2 with its first request. Who does not speak that
        # answers as if it had not asked, but the parser stops there and loses the body.
        self._upgrades = False
        kept = [pair for pair in self.headers if pair[0] not in {b"upgrade", b"http2-settings"}]
        lines = [b"%s: %s\r\n" % pair for pair in kept]
        method, version = self.parser.get_method(), self.parser.get_http_version().encode("ascii")
        self.parser = httptools.HttpRequestParser(self)
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines))
        self._feed(head + rest)

    def on_headers_complete(self) -> None:
        # a CONNECT is no request that could be answered without
        self._upgrades = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._upgrades:
            return
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        super().on_headers_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete] + [self.cycle]

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrades:
            return
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0
        self._disarm()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and self._deadline is None:
            self._arm()  # what is left of a body that nobody reads

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(_UNREAD_S, self._too_slow)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_S, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing() or self._unread is not None:
            self.transport.abort()

    def _refuse(self) -> None:
        if self._in_head:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"connection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
        else:
            self.transport.abort()  # an answer may be under way


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM, and do not raise them again: it was asked to end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def open_port(host: str, port: int) -> socket.socket:
    """Bind and listen. Raises UsageError naming who listens there."""
    check_port(host, port)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def check_tls(certificate: Path, key: Path) -> None:
    """Raise UsageError if these files cannot be served with."""
    for path in (certificate, key):
        if path.exists() and not path.is_file():  # a FIFO would wait for its writer
            raise UsageError(f"{path} cannot be used for TLS: it is no regular file", hint=f"ls -l {path}")
    try:
        # a key with a passphrase would ask for it at the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        named = next((path for path in (certificate, key) if not path.is_file()), certificate)
        raise UsageError(
            f"{named} and {key} cannot be used for TLS: {error.strerror or error}",
            hint="openssl req -x509 -newkey rsa -nodes -keyout key.pem -out cert.pem -subj /CN=localhost",
        ) from error


async def serve(
    app: Any,
    listening: socket.socket,
    *,
    tls: tuple[Path, Path] | None,
    on_ready: Callable[[Callable[[], None]], None],
) -> None:
    """Answer until SIGINT, SIGTERM, or a call of what `on_ready` is given."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,  # prompts are in no log, and neither is who asked
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_LEAVE_S,
        ssl_certfile=None if tls is None else str(tls[0]),
        ssl_keyfile=None if tls is None else str(tls[1]),
    )
    server = _Server(config)

    def end() -> None:
        server.should_exit = True

    on_ready(end)
    await server.serve(sockets=[listening])


def run(main: Callable[[], Any]) -> None:
    """Run in uvloop's event loop."""
    uvloop.run(main())
