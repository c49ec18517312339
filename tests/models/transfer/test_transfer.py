"""The threads of a transfer against a web server that does one thing wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launcher.errors import LauncherError, TryAgain
from launcher.models.network.trouble import Trouble
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.transfer import _Transfer, download_all
from launcher.models.transfer.tuning import Tuning
from launcher.progress import silent
from tests.models.transfer.test_receiving import open_shard

DATA = random.Random(2).randbytes(40 << 20)
FAST_BYTES = 6 << 20


class Beside:
    """Puts what is whole beside its partial file."""

    def find_locally(self, download: Download) -> bool:
        return download.partial_path.with_suffix(".whole").exists()

    def accept(self, download: Download, partial_file: PartialFile) -> None:
        partial_file.become(download.partial_path.with_suffix(".whole"))

    def explain(self, download: Download, trouble: Trouble) -> LauncherError:
        return TryAgain(f"{download.name}: {trouble.reason}")


class Server(BaseHTTPRequestHandler):
    """Answers the first request fast, and after some MiB with 200 bytes every 0.2 s: never silent."""

    protocol_version = "HTTP/1.1"
    asked: list[int]
    ranges = True
    drips = True

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 (the base class's name)

    def do_GET(self) -> None:
        text = self.headers.get("Range") if self.ranges else None
        begin, end = map(int, text.removeprefix("bytes=").split("-")) if text else (0, len(DATA) - 1)
        self.asked.append(begin)
        self.send_response(206 if text else 200)
        self.send_header("Content-Length", str(end + 1 - begin))
        if text:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(DATA)}")
        self.end_headers()
        at = begin
        try:
            if self.drips and len(self.asked) == 1:
                self.wfile.write(DATA[begin : begin + FAST_BYTES])
                for at in range(begin + FAST_BYTES, end, 200):
                    time.sleep(0.2)
                    self.wfile.write(DATA[at : at + 200])
            else:
                self.wfile.write(DATA[begin : end + 1])
        except OSError:
            self.close_connection = True


@contextmanager
def serving(handler: type[Server]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x"
        server.shutdown()
        thread.join()


def download(url: str, folder: Path) -> Download:
    return Download(
        name="x",
        size_bytes=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        url=url,
        partial_path=folder / "x.part",
        lock_path=folder / "x.lock",
        identity="x",
    )


def test_a_server_that_drips_is_asked_again(tmp_path: Path) -> None:
    """What it is asked for at once has grown by then: the read under way would take 17 minutes."""
    handler = type("Dripping", (Server,), {"asked": []})
    tuning = Tuning(connections=1, patience_s=5.0, crawl_window_s=1.5)
    with serving(handler) as url:
        download_all([download(url, tmp_path)], Beside(), tuning, silent)
    assert (tmp_path / "x.whole").read_bytes() == DATA
    assert handler.asked[1] >= FAST_BYTES // 2


def test_a_server_that_ignores_ranges_gives_the_file_in_one(tmp_path: Path) -> None:
    """Reads grow to sizes that no unit is a multiple of, as in use."""
    handler = type("Ignoring", (Server,), {"asked": [], "ranges": False, "drips": False})
    with serving(handler) as url:
        for number in range(4):
            folder = tmp_path / str(number)
            folder.mkdir()
            download_all([download(url, folder)], Beside(), Tuning(connections=4), silent)
            assert (folder / "x.whole").read_bytes() == DATA


def test_a_partial_file_that_cannot_be_synced_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_shard(tmp_path)
    opened.partial_file.mark([0])
    transfer = _Transfer([opened.download], None, Tuning(), silent)  # type: ignore[arg-type]
    transfer._state.open[0] = opened
    descriptor = opened.partial_file._descriptor

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    transfer._leave()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
