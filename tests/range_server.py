"""A loopback file server that speaks ranges, and misbehaves on request: one `Faults` per file name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass(slots=True)
class Faults:
    """`status` answers nothing else; `ignore_ranges` sends 200 and everything; `break_off_at` closes the connection
    at that byte of the file, `breaks` times; `shift` starts ranges too late; `short_by` ends them
    too soon, properly closed; `flips` answers have a wrong first byte; `etags` are given out in turn.
    """

    status: int | None = None
    ignore_ranges: bool = False
    no_content_range: bool = False
    break_off_at: int | None = None
    breaks: int = 1
    shift: int = 0
    short_by: int = 0
    flips: int = 0
    redirect_to: str | None = None
    etags: list[str | None] = field(default_factory=lambda: ['"v1"'])


@dataclass(slots=True)
class RangeServer:
    """`files` by name; what was asked is in `requests` as (name, range), what was sent in `sent_bytes`."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Faults] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    sent_bytes: int = 0


@contextmanager
def serve_ranges() -> Iterator[RangeServer]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    state = RangeServer(url=f"http://127.0.0.1:{http.server_address[1]}")
    http.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that hangs up is part of the tests
            self.close_connection = True

    def do_GET(self) -> None:
        state: RangeServer = self.server.state  # type: ignore[attr-defined]
        name = unquote(urlsplit(self.path).path).rpartition("/")[2]
        state.requests.append((name, self.headers.get("Range")))
        state.headers.append(dict(self.headers.items()))
        faults = state.faults.get(name, Faults())
        content = state.files.get(name)
        if faults.redirect_to is not None:
            self._head(302, 0, {"Location": faults.redirect_to})
        elif faults.status is not None or content is None:
            self._head(faults.status or 404, 0, {})
        else:
            self._send(state, faults, content)

    def _send(self, state: RangeServer, faults: Faults, content: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        etag = faults.etags[0] if len(faults.etags) == 1 else faults.etags.pop(0)
        extra = {} if etag is None else {"ETag": etag}
        if match is None or faults.ignore_ranges:
            self._head(200, len(content), extra)
            self._body(state, content)
            return
        first = int(match[1]) + faults.shift
        last = min(int(match[2] or len(content)), len(content) - 1)
        if first >= len(content):
            self._head(416, 0, {"Content-Range": f"bytes */{len(content)}"})
            return
        if not faults.no_content_range:
            extra["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        end = last + 1 - faults.short_by
        self._head(206, end - first, extra)
        if faults.break_off_at is not None and faults.breaks and first < faults.break_off_at < end:
            faults.breaks -= 1
            end = faults.break_off_at
            self.close_connection = True
        body = content[first:end].ljust(end - first if end > len(content) else 0, b"\0")
        if faults.flips:
            faults.flips -= 1
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        self._body(state, body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _body(self, state: RangeServer, body: bytes) -> None:
        try:
            self.wfile.write(body)
            state.sent_bytes += len(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Nothing: requests are kept in the state."""
