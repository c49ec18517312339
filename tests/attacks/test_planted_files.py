"""Caches, logs and models that were exchanged for a pipe or for something without an end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from launcher.deployment.history import HistoryEntry, Identity, append_entry, read_history
from launcher.deployment.log_file import follow, head, open_log, read_from, tail
from launcher.engine.find import Engine, read_engine
from launcher.models.local import FileSource
from launcher.models.saved import is_saved
from launcher.models.store import HubStore
from launcher.system.packages import sha256_of
from launcher.system.small_files import open_regular, read_small
from tests.cli.shell import launcher
from tests.make_gguf import make_gguf

ENTRY = HistoryEntry(
    at="2026-11-30", name="a", model_id="m", identity=Identity(plan="p", engine=None, driver=None),
    outcome="ready", load_s=1.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def ends_soon() -> Iterator[None]:
    """Fail a test that waits for a pipe."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError("a pipe is waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 90)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def plant_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def plant_endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, 1 << 40)


planted = pytest.mark.parametrize("plant", [plant_pipe, plant_endless])


@planted
def test_what_the_store_keeps_counts_as_absent(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    store = HubStore(folder=tmp_path)
    store.keep_header("u/r", "c" * 40, "m.gguf", 100, b"header")
    store.keep_branch("u/r", "main", "c" * 40)
    store.keep_used(tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        plant(path)
    plant(tmp_path / "listings" / "x.json")
    assert store.header("u/r", "c" * 40, "m.gguf", 100) is None
    assert store.branch("u/r", "main") is None
    assert not store.used()
    assert store.listings("u/r") == ()
    store.keep_used(tmp_path)  # and its lock is not waited for


@planted
def test_a_history_that_is_none_is_empty(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == ()


def test_a_pipe_is_not_appended_to(tmp_path: Path) -> None:
    plant_pipe(tmp_path / "history.jsonl")
    with pytest.raises(OSError, match="no regular file"):
        append_entry(tmp_path / "history.jsonl", ENTRY)


def test_a_text_with_ends_of_lines_is_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_entry(path, ENTRY)
    path.write_text(path.read_text(encoding="utf-8").replace('"m"', '"m\u2028\x85n"'), encoding="utf-8")
    assert [entry.model_id for entry in read_history(path)] == ["m\u2028\x85n"]


@pytest.mark.parametrize(
    "read",
    [open_regular, read_small, sha256_of, lambda path: tuple(follow(path, ended=lambda: True))],
)
def test_a_pipe_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    plant_pipe(tmp_path / "file")
    with pytest.raises(OSError, match="no regular file"):
        read(tmp_path / "file")


@planted
def test_a_log_that_is_none_says_nothing(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "log")
    assert not (
        head(tmp_path / "log", 10) + tail(tmp_path / "log", 10) + read_from(tmp_path / "log", 0, 10)
    ).strip("\0")


@planted
def test_no_engine_is_where_its_record_is_none(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "engine.json")
    assert read_engine(tmp_path) is None


def test_a_model_exchanged_for_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    plant_pipe(tmp_path / "m.gguf")
    assert not is_saved(tmp_path / "m.gguf")
    with pytest.raises(Exception, match="no regular file"):
        FileSource(tmp_path / "m.gguf", 100).read(0, 10)


@pytest.mark.parametrize("ending", ["", ".1", ".2"])
def test_a_folder_in_place_of_a_log_is_no_hindrance(tmp_path: Path, ending: str) -> None:
    log = tmp_path / "a.log"
    for _ in range(3):
        os.close(open_log(log))
    planted = tmp_path / f"a.log{ending}"
    planted.unlink()
    planted.mkdir()
    for _ in range(4):
        os.close(open_log(log))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "a.log",
        "a.log.1",
        "a.log.2",
    ]


def test_a_log_is_followed_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a\n" + b"x" * (5 << 20) + b"\nb\nc")
    pieces = list(follow(log, ended=lambda: True))
    assert pieces[0] == "a"
    assert pieces[-2:] == ["b", "c"]
    assert max(map(len, pieces)) <= 2 << 20
    assert sum(piece.count("x") for piece in pieces) == 5 << 20


@pytest.mark.parametrize(
    ("n", "last"), [(0, []), (1, ["d"]), (2, ["", "d"]), (3, ["c", "", "d"]), (9, ["a", "c", "", "d"])]
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines(tmp_path: Path, n: int, last: list[str], end: str) -> None:
    (tmp_path / "log").write_text(f"a\nc\n\nd{end}")
    assert list(follow(tmp_path / "log", last_lines=n, ended=lambda: True)) == last


@pytest.mark.engine
@planted
def test_no_cache_is_needed_nor_waited_for(
    engine: Engine, tmp_path: Path, plant: Callable[[Path], None], clean_environment: Path
) -> None:
    del clean_environment
    model, home = tmp_path / "m.gguf", tmp_path / "home"
    make_gguf(model, "llama")
    run = partial(launcher, LAUNCHER_HOME=str(home), LAUNCHER_ENGINE=str(engine.path))

    first = run("plan", str(model), "--json")
    kept = [path for path in (home / "cache").rglob("*") if path.is_file()]
    assert (first.returncode, bool(kept)) == (0, True)
    for path in kept:
        plant(path)
    again = run("plan", str(model), "--json")
    assert (again.returncode, again.stderr) == (0, first.stderr)
    assert [run(command).returncode for command in ("ls", "ps", "history")] == [0, 0, 0]
