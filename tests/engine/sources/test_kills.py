"""`kill -9` in the middle of an install: nothing half is an engine, and the next install is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.engine.default import read_default
from launcher.engine.find import read_engines
from tests.engine.sources.archives import RUNS, TAG, engine_archive, entry
from tests.fakes.releases import Releases, serve_releases

PATIENCE_S = 60.0
SLOW = RUNS.replace("--version)", "--version) sleep 0.4;")
NOISE = os.urandom(6_000_000)


@pytest.fixture
def releases() -> Iterator[Releases]:
    with serve_releases() as running:
        archive = engine_archive(SLOW, more=[entry(f"llama-{TAG}/noise", NOISE)])
        for arch in ("x64", "arm64"):
            running.published.setdefault(TAG, {})[f"llama-{TAG}-bin-ubuntu-{arch}.tar.gz"] = archive
        yield running


def start(releases: Releases, home: Path, *words: str) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "LAUNCHER_RELEASES": releases.url,
        "LAUNCHER_HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "COLUMNS": "300",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "engine", *words],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def has(pattern: str) -> Callable[[Path], bool]:
    return lambda engines: any(engines.glob(pattern))


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "its lock is held": has(".locks/install"),
    "a download has begun": has(".downloads/*.part"),
    "a download is whole": has(".downloads/*.tar.gz"),
    "it is being unpacked": has(".install-*"),
    "the program is unpacked": has(".install-*/unpacked/0/*/llama-server"),
    "all is unpacked, and it is tried": has(".install-*/unpacked/0/*/libllama.so.0"),
    "its record is written": has(".install-*/unpacked/0/*/engine.json"),
    "it has its place": has("b*-cpu-*"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(moment: str, releases: Releases, tmp_path: Path) -> None:
    engines = tmp_path / "cache" / "engines"
    process = start(releases, tmp_path, "install", TAG, "--backend", "cpu")
    end = time.monotonic() + PATIENCE_S
    while not MOMENTS[moment](engines) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    reached = MOMENTS[moment](engines) or bool(list(engines.glob("b*")))
    os.killpg(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    assert reached, out.decode()
    for engine in read_engines(engines):  # none yet, or a whole one
        assert (engine.folder / "noise").read_bytes() == NOISE
        assert (engine.folder / "libllama.so.0").exists()
    again = start(releases, tmp_path, "install", TAG, "--backend", "cpu")
    out, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, out.decode()
    (engine,) = read_engines(engines)
    assert (engine.folder / "noise").read_bytes() == NOISE
    left = {path.name for path in engines.iterdir()} - {engine.folder.name, ".locks"}
    assert left == set()


def has_bytes(pattern: str, least: int) -> Callable[[Path], bool]:
    return lambda engines: any(
        path.stat().st_size >= least for path in engines.glob(pattern) if path.is_file()
    )


# of an update, which downloads, unpacks, tries and only then chooses: in the order in which they come
WHILE_UPDATING: tuple[Callable[[Path], bool], ...] = (
    has(".locks/default"),
    *(has_bytes(".downloads/*.part", least) for least in (1, 1_500_000, 3_000_000, 4_500_000)),
    has(".install-*"),
    has(".install-*/unpacked/0/*/llama-server"),
    has_bytes(".install-*/unpacked/0/*/noise", 2_000_000),
    has(".install-*/unpacked/0/*/libllama.so.0"),
    has(".install-*/unpacked/0/*/engine.json"),
    has("b11026-*/engine.json"),
    has("b11026-*/engine.json"),  # in its place by now: it is tried
)


def test_an_update_that_is_killed_leaves_the_old_engine_in_use(releases: Releases, tmp_path: Path) -> None:
    engines = tmp_path / "cache" / "engines"
    old = engine_archive(SLOW.replace("11026", "9"), tag="b9")
    for arch in ("x64", "arm64"):
        releases.published.setdefault("b9", {})[f"llama-b9-bin-ubuntu-{arch}.tar.gz"] = old
    first = start(releases, tmp_path, "install", "b9", "--backend", "cpu")
    out, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, out.decode()
    killed = 0
    for reached in WHILE_UPDATING:
        process = start(releases, tmp_path, "update", TAG, "-y")
        end = time.monotonic() + PATIENCE_S
        while not reached(engines) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        killed += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        chosen = read_default(engines)
        assert chosen is not None or len(read_engines(engines)) == 1
        assert chosen is None or chosen.name.startswith("b9-cpu-")
        for engine in read_engines(engines):  # a whole one
            assert (engine.folder / "libllama.so.0").exists()
    assert killed >= len(WHILE_UPDATING) // 2
    listed = start(releases, tmp_path, "list")
    out, _ = listed.communicate(timeout=PATIENCE_S)
    assert b"used: " in out
    assert b"b9-cpu-" in out.rpartition(b"used: ")[2], out.decode()
