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

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from launcher.deployment.ports import check_port
from launcher.errors import UsageError

_MOST_HEAD_BYTES = 64 << 10
_HEAD_S = 10.0  # from the first byte of a request, or of the connection, to the end of its headers
_MOST_CONNECTIONS = 1000
_LEAVE_S = 5  # for answers under way, when the gateway ends
_BACKLOG = 512


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, for which headers may take neither for ever nor any number of bytes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._arm()
            # what comes after the headers in the same packet is no more than a packet
            if self._head_bytes > _MOST_HEAD_BYTES and len(data) < _MOST_HEAD_BYTES:
                self._refuse()
                return
        super().data_received(data)
        if self._in_head and self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_S, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse(self) -> None:
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()


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
