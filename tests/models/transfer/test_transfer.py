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
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from launcher.errors import LauncherError, TryAgain
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.state import ServerBusy, ShardComplete, ShardFailed
from launcher.models.transfer.transfer import _Transfer, download_all
from launcher.models.transfer.tuning import Tuning
from launcher.progress import Step, silent
from launcher.system.locks import exclusive_if_free
from launcher.system.network.trouble import Trouble, TroubleKind
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


class Shown:
    """The progress of one shard in a transfer without threads."""

    def __init__(self, folder: Path, tuning: Tuning | None = None) -> None:
        self.opened = open_shard(folder)
        self.steps: list[Step] = []
        self.transfer = _Transfer([self.opened.download], Beside(), tuning or Tuning(), self.steps.append)
        self.transfer._state.open[0] = self.opened
        self.transfer._state.schedule.open(0, self.opened.download.size_bytes)

    def texts(self) -> list[str]:
        texts = [step.text for step in self.steps]
        self.steps.clear()
        return texts

    def report(self) -> list[tuple[int, int | None, str]]:
        self.transfer._report(waiting=False)
        steps = [(step.done, step.total, step.text) for step in self.steps]
        self.steps.clear()
        return steps


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    made = Shown(tmp_path)
    yield made
    made.transfer._leave()


@pytest.mark.parametrize(
    ("status", "wait_s", "sentence"),
    [
        (503, 7.4, "server busy (503), trying again in 7 s"),
        (429, 0.1, "server busy (429), trying again in 1 s"),
        (None, 2.0, "server busy, trying again in 2 s"),
    ],
)
def test_a_busy_server_is_told_of(shown: Shown, status: int | None, wait_s: float, sentence: str) -> None:
    shown.transfer._handle(ServerBusy(status=status, wait_s=wait_s))
    assert shown.texts() == [sentence]


def test_what_has_arrived_is_told_and_then_how_much_of_it_is_checked(shown: Shown) -> None:
    size = shown.opened.download.size_bytes
    assert shown.report() == [(0, size, ""), (0, size, "")]
    schedule = shown.transfer._state.schedule
    span = schedule.take(0.0)
    assert not isinstance(span, float | None)
    schedule.advance(span, 100)
    assert shown.report() == [(100, size, ""), (100, size, "")]
    schedule.advance(span, size - 100)
    shown.opened.digest.follow(size // 4)
    assert shown.report() == [(size, size, ""), (size, size, "checking, 25 %")]
    shown.transfer._accepted_bytes = 1000
    assert shown.report()[0] == (size + 1000, size, "")


def test_an_empty_file_is_reported_without_a_share(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    shown.transfer._downloads = [replace(shown.opened.download, size_bytes=0)]
    shown.transfer._state.schedule.open(0, 0)
    assert shown.report() == [(0, 0, ""), (0, 0, "")]
    shown.transfer._leave()


def test_a_wrong_sha256_is_fetched_again_once(shown: Shown) -> None:
    shown.transfer._handle(ShardComplete(shard=0, sha256="f" * 64))
    right = shown.opened.download.sha256 or ""
    assert shown.texts() == [
        f"x arrived with the sha256 ffffffffffff…, and should have {right[:12]}…: it is fetched again"
    ]
    with pytest.raises(TryAgain, match=f"x: {'e' * 64}"):
        shown.transfer._handle(ShardComplete(shard=0, sha256="e" * 64))


def test_a_word_about_a_shard_that_is_settled_changes_nothing(shown: Shown) -> None:
    shown.transfer._handle(ShardComplete(shard=7, sha256="f" * 64))
    refused = Trouble(kind=TroubleKind.REFUSED, reason="it answered 401")
    shown.transfer._handle(ShardFailed(shard=7, trouble=refused))
    assert shown.texts() == []
    with pytest.raises(TryAgain, match="x: it answered 401"):
        shown.transfer._handle(ShardFailed(shard=0, trouble=refused))


def test_the_right_sha256_gives_the_file_its_place(shown: Shown) -> None:
    shown.transfer._handle(ShardComplete(shard=0, sha256=shown.opened.download.sha256))
    assert shown.opened.download.partial_path.with_suffix(".whole").exists()
    assert shown.transfer._accepted_bytes == shown.opened.download.size_bytes


class FakeConnection:
    def __init__(self, reading_since: float | None) -> None:
        self.reading_since, self.aborted = reading_since, False

    def abort(self) -> None:
        self.aborted = True


def test_a_read_as_long_as_the_crawl_window_is_aborted(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    connections = [FakeConnection(since) for since in (None, 69.9, 70.0, 99.0)]
    shown.transfer._threads.connections += connections  # type: ignore[arg-type]
    shown.transfer._abort_stalled_reads()
    assert [connection.aborted for connection in connections] == [False, True, False, False]


def test_threads_have_three_seconds_to_end_together(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = [100.0], list[float]()

    class Hanging:
        def join(self, timeout_s: float) -> None:
            waits.append(timeout_s)
            now[0] += 2.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown.transfer._threads.running += [Hanging(), Hanging(), Hanging()]  # type: ignore[list-item]
    shown.transfer._leave()
    shown.transfer._threads.running.clear()
    assert waits == [3.0, 1.0, 0.0]


def test_shards_are_opened_a_few_at_a_time(tmp_path: Path) -> None:
    downloads = [
        replace(download("http://x", tmp_path / str(number)), size_bytes=10, name=str(number))
        for number in range(4)
    ]
    for each in downloads:
        each.lock_path.parent.mkdir()
    (tmp_path / "0" / "x.whole").touch()  # somebody else has fetched it
    transfer = _Transfer(downloads, Beside(), Tuning(shards_at_once=2), silent)
    with exclusive_if_free(downloads[1].lock_path):
        assert transfer._open_more()
    assert (sorted(transfer._state.open), transfer._todo, transfer._accepted_bytes) == ([2, 3], [1], 10)
    assert not transfer._open_more()
    assert (sorted(transfer._state.open), transfer._todo) == ([2, 3], [1])
    transfer._leave()


def test_another_download_of_the_same_file_is_waited_for(tmp_path: Path) -> None:
    wanted = download("http://x", tmp_path)
    texts: list[str] = []
    lock = exclusive_if_free(wanted.lock_path)
    assert lock.__enter__()

    def on_progress(step: Step) -> None:
        texts.append(step.text)
        if len(texts) == 1:
            (tmp_path / "x.whole").touch()
            lock.__exit__(None, None, None)

    download_all([wanted], Beside(), Tuning(), on_progress)
    assert (texts[0], texts[-1]) == ("another download of the same file is under way", "")


def test_a_file_that_is_waited_for_hides_no_progress_of_another(tmp_path: Path) -> None:
    waited_for = download("http://x", tmp_path)
    (tmp_path / "own").mkdir()
    own = download("http://127.0.0.1:1/x", tmp_path / "own")
    texts: list[str] = []

    def on_progress(step: Step) -> None:
        texts.append(step.text)
        raise KeyboardInterrupt

    with exclusive_if_free(waited_for.lock_path), pytest.raises(KeyboardInterrupt):
        download_all([waited_for, own], Beside(), Tuning(), on_progress)
    assert texts == [""]


def test_without_files_there_is_nothing_to_do() -> None:
    steps: list[Step] = []
    download_all([], Beside(), Tuning(), steps.append)
    assert steps == []
