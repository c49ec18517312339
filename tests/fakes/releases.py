"""A releases API on loopback, whose downloads redirect to a second server, with the faults an install must survive."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

RESET = 1_900_000_000  # seconds since the epoch: when the rate limit ends


@dataclass(slots=True)
class Releases:
    """What is published: by tag the files by name. `headers` has those of every request, by server."""

    url: str = ""
    storage_url: str = ""
    published: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pointer: bytes | None = None  # nightly-tag.txt of the latest release; None: there is none
    limited: int | None = None  # every answer of the API has this status, and says when the limit ends
    status: int | None = None  # every answer of the API has this status
    without_digest: bool = False
    wrong_digest: bool = False
    truncate_to: int | None = None  # downloads end there, their length as listed
    break_off_once_at: int | None = None
    body: bytes | None = None  # whatever the API is asked
    requests: list[str] = field(default_factory=list)
    headers: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {"api": [], "storage": []})
    gate: threading.Event | None = None  # downloads wait here in the middle

    def document(self, tag: str) -> dict[str, Any]:
        assets = [self._asset(tag, name, content) for name, content in self.published[tag].items()]
        return {"tag_name": tag, "prerelease": True, "assets": assets}

    def _asset(self, tag: str, name: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content + (b"!" if self.wrong_digest else b"")).hexdigest()
        return {
            "name": name,
            "size": len(content),
            "digest": None if self.without_digest else f"sha256:{digest}",
            "browser_download_url": f"{self.url.removesuffix('/releases')}/download/{tag}/{name}",
        }

    def answer(self, path: str) -> object | None:
        """The document for a path of the API, None where there is none."""
        if path.startswith("/releases/tags/"):
            tag = path.rpartition("/")[2]
            return self.document(tag) if tag in self.published else None
        if path == "/releases/latest":
            if self.pointer is None:
                return None
            url = f"{self.url.removesuffix('/releases')}/download/v1.0.0/nightly-tag.txt"
            pointer = {"name": "nightly-tag.txt", "size": len(self.pointer), "browser_download_url": url}
            return {"tag_name": "v1.0.0", "assets": [{**pointer, "digest": None}]}
        if path == "/releases":
            return [self.document(tag) for tag in self.published]
        return None


@contextmanager
def serve_releases() -> Iterator[Releases]:
    state = Releases()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (_Api, _Storage)]
    threads = []
    for server in servers:
        server.daemon_threads = True
        server.state = state  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        threads.append(thread)
    state.url = f"http://127.0.0.1:{servers[0].server_address[1]}/releases"
    state.storage_url = f"http://127.0.0.1:{servers[1].server_address[1]}"
    try:
        yield state
    finally:
        if state.gate is not None:
            state.gate.set()
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_name = ""

    @property
    def state(self) -> Releases:
        found: Releases = self.server.state  # type: ignore[attr-defined]
        return found

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that hangs up is part of the tests
            self.close_connection = True

    def head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def note(self) -> str:
        path = urlsplit(self.path).path
        self.state.requests.append(path)
        self.state.headers[self.server_name].append(dict(self.headers.items()))
        return path

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Nothing."""


class _Api(_Handler):
    server_name = "api"

    def do_GET(self) -> None:
        path, state = self.note(), self.state
        if path.startswith("/download/"):
            self.head(302, 0, {"Location": f"{state.storage_url}{path}?signature=secret"})
            return
        if state.limited is not None:
            headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(RESET)}
            self._send(state.limited, b'{"message": "API rate limit exceeded"}', headers)
            return
        if state.status is not None:
            self._send(state.status, b"{}", {})
            return
        document = state.answer(path)
        body = state.body if state.body is not None else json.dumps(document).encode()
        self._send(404 if document is None else 200, body, {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.head(status, len(body), {"Content-Type": "application/json", **headers})
        self.wfile.write(body)


class _Storage(_Handler):
    server_name = "storage"

    def do_GET(self) -> None:
        path, state = self.note(), self.state
        _, _, tag, name = path.split("/")
        content = state.pointer if name == "nightly-tag.txt" else state.published.get(tag, {}).get(name)
        if content is None:
            self.head(404, 0, {})
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2])) if match else (0, len(content) - 1)
        span = f"bytes {first}-{last}/{len(content)}"
        self.head(206 if match else 200, last + 1 - first, {"Content-Range": span} if match else {})
        self._body(content, first, last + 1)

    def _body(self, content: bytes, first: int, end: int) -> None:
        state = self.state
        for stop in (state.truncate_to, state.break_off_once_at):
            if stop is not None and first <= stop < end:
                self.wfile.write(content[first:stop])
                state.break_off_once_at = None
                self.close_connection = True
                return
        if state.gate is not None:
            half = (first + end) // 2
            self.wfile.write(content[first:half])
            self.wfile.flush()
            state.gate.wait(60)
            first = half
        self.wfile.write(content[first:end])
