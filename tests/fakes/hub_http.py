"""The two HTTP servers of the local Hub: the Hub itself, and the storage host that LFS files are redirected to."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.hub_state import Fault, HubFile, HubState, Repo, Seen, read_content


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, hub: HubState, handler: type[PlainHandler], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.host = host
        self.hub = hub
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        if tls is not None:  # the handshake is left to the handler's thread
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
            self.hub.crashes.append(error)


class PlainHandler(BaseHTTPRequestHandler):
    """What both hosts do: record, fail on demand, send a file or a range of it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer
    where: ClassVar[str] = ""
    fault: Fault

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def _answer(self) -> None:
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        seen = Seen(
            host=self.server.host,
            method=self.command,
            path=self.path,
            range=self.headers.get("Range"),
            authorization=self.headers.get("Authorization"),
            agent=self.headers.get("User-Agent", ""),
        )
        self.server.hub.seen.append(seen)
        self.server.hub.on_request(seen)
        self.fault = self.server.hub.fault_for(self._where(), self.command, self.path)
        if self._is_odd():
            return
        if self.fault.status is not None:
            headers = {"Retry-After": self.fault.retry_after} if self.fault.retry_after is not None else {}
            self.send_refusal(self.fault.status, "", f"fault {self.fault.status}", headers)
            return
        self.answer()

    def _is_odd(self) -> bool:
        """Answer as no server should, if the fault says so."""
        fault = self.fault
        if fault.hang_up:
            self._close()
        elif fault.redirect_to is not None:
            self.send_head(302, {"Location": fault.redirect_to}, 0)
        elif fault.head_bytes_per_s is not None:
            self._drip_headers(fault.head_bytes_per_s)
        elif fault.body is not None:
            self._send_whatever(fault.body)
        else:
            return False
        return True

    def _drip_headers(self, bytes_per_s: int) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
            while not self.server.hub.released.wait(1 / bytes_per_s):
                self.wfile.write(b"x")
        self._close()

    def _send_whatever(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in self.fault.headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")  # so the body may end anywhere
        self.end_headers()
        times = itertools.count() if self.fault.repeat == 0 else range(self.fault.repeat)
        with contextlib.suppress(OSError):  # the client has enough
            for _ in times:
                for at in range(0, len(body), self.fault.bytes_per_s or len(body)):
                    self.wfile.write(body[at : at + (self.fault.bytes_per_s or len(body))])
                    if self.fault.bytes_per_s and self.server.hub.released.wait(1):
                        return
        self._close()

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client may have left first
            self.connection.shutdown(socket.SHUT_RDWR)

    def _where(self) -> str:
        return self.where

    def answer(self) -> None:
        raise NotImplementedError

    def send_json(self, value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
        body = json.dumps(value).encode()[: self.fault.truncate_to]
        self.send_head(status, {"Content-Type": "application/json", **(headers or {})}, len(body))
        self.send_body(iter([body]), len(body))

    def send_refusal(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        named = {"X-Error-Code": code} if code else {}
        self.send_json({"error": message}, {**named, "X-Error-Message": message, **(headers or {})}, status)

    def send_head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_file(self, file: HubFile, headers: Mapping[str, str]) -> None:
        start, end = 0, file.size
        asked = None if self.fault.ignore_range else self.headers.get("Range")
        if asked is not None:
            found = _parse_range(asked, file.size)
            if found is None:
                self.send_head(416, {"Content-Range": f"bytes */{file.size}"}, 0)
                return
            start, end = found
        named = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", **headers}
        if asked is not None:
            named["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        if self.fault.truncate_to is not None:
            end = min(end, start + self.fault.truncate_to)
        self.send_head(200 if asked is None else 206, named, max(0, end - start + self.fault.length_off))
        if self.command == "HEAD":
            return
        if self.fault == Fault() and isinstance(file.content, Path):
            with file.content.open("rb") as source:
                self.wfile.flush()
                self.connection.sendfile(source, start, end - start)
            return
        self.send_body(_flip(read_content(file.content, start, end), start, self.fault.flip_at), end - start)

    def send_body(self, chunks: Iterator[bytes], length: int) -> None:
        if self.command == "HEAD":
            return
        stop = min(
            (n for n in (self.fault.drop_after, self.fault.stall_after) if n is not None), default=length
        )
        sent = 0
        for chunk in chunks:
            part = chunk[: stop - sent]
            self.wfile.write(part)
            sent += len(part)
            if self.fault.bytes_per_s:
                self.server.hub.released.wait(len(part) / self.fault.bytes_per_s)
            if sent >= stop and stop < length:
                self._break_off()
                return

    def _break_off(self) -> None:
        if self.fault.drop_after is None:
            self.server.hub.released.wait()
        if self.fault.reset:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            return
        self._close()


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """`bytes=a-b` -> (start, end), None where the range lies outside the file."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


def _flip(chunks: Iterator[bytes], start: int, at: int | None) -> Iterator[bytes]:
    for chunk in chunks:
        here = -1 if at is None else at - start
        start += len(chunk)
        if 0 <= here < len(chunk):
            yield chunk[:here] + bytes([chunk[here] ^ 0xFF]) + chunk[here + 1 :]
        else:
            yield chunk


class StorageHandler(PlainHandler):
    where = "storage"

    def answer(self) -> None:
        hub = self.server.hub
        if not hub.use_link(self.query.get("sig", [""])[0]):
            self.send_refusal(403, "", "Request has expired")
            return
        file = hub.find_content(self.url.path.strip("/"), self.query.get("name", [""])[0])
        if file is None:
            self.send_refusal(404, "", "NoSuchKey")
            return
        self.send_file(file, {"Content-Type": "application/octet-stream"})


class HubHandler(PlainHandler):
    def _where(self) -> str:
        return "api" if self.url.path.startswith("/api/") else "resolve"

    def answer(self) -> None:
        parts = [unquote(part) for part in self.url.path.split("/") if part]
        is_api = parts[:2] == ["api", "models"]
        if is_api and len(parts) == 2:
            self._send_search()
            return
        parts = parts[2:] if is_api else parts
        repo = self.server.hub.repos.get("/".join(parts[:2]))
        if repo is None or (repo.private and not self.headers.get("Authorization")):
            known = bool(self.headers.get("Authorization"))
            message = "Repository not found" if known else "Invalid username or password."
            self.send_refusal(404 if known else 401, "RepoNotFound", message)
            return
        if not self._has_good_token():
            self.send_refusal(401, "", "Invalid credentials in Authorization header")
            return
        view, rest = (parts[2], parts[3:]) if len(parts) > 2 else ("", [])
        if is_api and view == "refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in repo.branches.items()
            ]
            self.send_json({"branches": branches, "converts": [], "tags": []})
            return
        commit = repo.commit_of(rest[0] if rest else "main")
        if commit is None:
            self.send_refusal(404, "RevisionNotFound", f"Invalid rev id: {rest[0]}")
        elif is_api:
            self._answer_api(repo, commit, view, "/".join(rest[1:]))
        elif view == "resolve":
            self._resolve(repo, commit, "/".join(rest[1:]))
        else:
            self.send_refusal(404, "", "no such page")

    def _send_search(self) -> None:
        """Answer `/api/models?search=…`: every repo with all of the words in its name."""
        words = self.query.get("search", [""])[0].lower().split()
        found = [
            {"id": repo.name, "downloads": 1000 - place, "gated": "auto" if repo.gated else False}
            for place, repo in enumerate(self.server.hub.repos.values())
            if all(word in repo.name.lower() for word in words)
        ]
        self.send_json(found[: int(self.query.get("limit", ["100"])[0])])

    def _has_good_token(self) -> bool:
        sent, token = self.headers.get("Authorization"), self.server.hub.token
        return sent is None or token is None or sent == f"Bearer {token}"

    def _answer_api(self, repo: Repo, commit: str, view: str, folder: str) -> None:
        files = repo.commits[commit]
        if view in {"", "revision"}:
            self._send_model_info(repo, commit)
        elif view == "tree":
            prefix = f"{folder}/" if folder else ""
            inside = [file for name, file in sorted(files.items()) if name.startswith(prefix)]
            if self.query.get("recursive", ["false"])[0].lower() != "true":
                inside = [file for file in inside if "/" not in file.name.removeprefix(prefix)]
            self._send_tree([_tree_entry(file) for file in inside])
        elif view == "paths-info":
            wanted = self._wanted_paths()
            self.send_json([_tree_entry(files[name]) for name in wanted if name in files])
        else:
            self.send_refusal(404, "", "no such endpoint")

    def _wanted_paths(self) -> list[str]:
        if "json" in self.headers.get("Content-Type", ""):
            return list(json.loads(self.body)["paths"])
        return parse_qs(self.body.decode()).get("paths", [])

    def _send_model_info(self, repo: Repo, commit: str) -> None:
        siblings: list[dict[str, object]] = []
        for file in repo.commits[commit].values():
            sibling: dict[str, object] = {"rfilename": file.name}
            if "blobs" in self.query:
                entry = _tree_entry(file)
                sibling |= {"size": file.size, "blobId": file.git_oid}
                if file.lfs:
                    lfs = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
                    sibling["lfs"] = lfs if "lfs" in entry else None
            siblings.append(sibling)
        self.send_json(
            {
                "_id": "0" * 24,
                "id": repo.name,
                "modelId": repo.name,
                "sha": commit,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": ["gguf"],
                "siblings": siblings,
            }
        )

    def _send_tree(self, entries: list[dict[str, object]]) -> None:
        """Folders are left out, as both clients skip them."""
        size = self.server.hub.page_size
        start = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if start + size < len(entries):
            query = f"recursive={self.query.get('recursive', ['false'])[0]}&cursor={start + size}"
            headers["Link"] = f'<{self.server.url}{self.url.path}?{query}>; rel="next"'
        self.send_json(entries[start : start + size], headers)

    def _resolve(self, repo: Repo, commit: str, name: str) -> None:
        known = {"X-Repo-Commit": commit}
        if repo.gated and not (repo.accepted and self.headers.get("Authorization")):
            status = 403 if self.headers.get("Authorization") else 401
            self.send_refusal(status, "GatedRepo", f"Access to model {repo.name} is restricted", known)
            return
        file = repo.commits[commit].get(name)
        if file is None:
            self.send_refusal(404, "EntryNotFound", "Entry not found", known)
            return
        if not file.lfs:
            self.send_file(file, known)
            return
        location = self.server.hub.sign(file)
        linked = {
            "X-Linked-Size": str(file.size),
            "X-Linked-Etag": f'"{file.etag}"',
            "ETag": f'"{file.git_oid}"',
        }
        body = f"Found. Redirecting to {location}".encode()
        self.send_head(302, {**known, **linked, "Location": location, "Accept-Ranges": "bytes"}, len(body))
        self.send_body(iter([body]), len(body))


def _tree_entry(file: HubFile) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": file.git_oid, "size": file.size, "path": file.name}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry
