"""Asking a llama-server once. The fake is a program that prints what the pinned engine printed and counts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.engine.ask import ask_engine
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine, EngineSource
from launcher.errors import EngineFailed, UsageError
from launcher.system.packages import sha256_of

CAPTURES = Path(__file__).parent.parent / "captures" / "engine"


def talker(folder: Path, script: str) -> Engine:
    """An executable that does what the shell script says."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "llama-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Engine(path=path, folder=folder, source=EngineSource.OPTION)


def server(folder: Path) -> Engine:
    """Says what the pinned engine says, and writes down each time it is asked."""
    return talker(
        folder,
        f"""echo "$1" >> "{folder}/asked"
        case $1 in
            --version) cat "{CAPTURES}/version-0c1e570.txt" >&2 ;;
            --help) cat "{CAPTURES}/help-0c1e570.txt" ;;
        esac""",
    )


def asked(engine: Engine) -> list[str]:
    log = engine.folder / "asked"
    return log.read_text().split() if log.exists() else []


def test_a_binary_is_asked_once(tmp_path: Path) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    first = read_capabilities(engine, cache)
    assert (first.version.commit, first.has("--load-mode")) == ("0c1e570", True)
    assert first == read_capabilities(engine, cache)
    assert asked(engine) == ["--version", "--help"]


def test_the_same_binary_elsewhere_is_not_asked_again(tmp_path: Path) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    first = read_capabilities(engine, cache)
    elsewhere = tmp_path / "elsewhere" / "llama-server"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(engine.path.read_bytes())
    elsewhere.chmod(0o755)
    moved = Engine(path=elsewhere, folder=elsewhere.parent, source=EngineSource.PATH)
    assert first == read_capabilities(moved, cache)
    assert len(asked(engine)) == 2


def test_a_binary_that_changed_in_place_is_asked_again(tmp_path: Path) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    before = read_capabilities(engine, cache)
    engine.path.write_text(engine.path.read_text().replace("0c1e570", "7e4c0a9"))
    after = read_capabilities(engine, cache)
    assert (before.version.commit, after.version.commit) == ("0c1e570", "7e4c0a9")
    assert before.sha256 != after.sha256


@pytest.mark.parametrize("name", ["libllama-server-impl.so", "libllama-common.so.0.5.0", "libggml.so.0.25.3"])
def test_a_library_that_changed_is_asked_again(tmp_path: Path, name: str) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    library = engine.folder / name
    library.write_text("one")
    before = read_capabilities(engine, cache)
    library.write_text("another")
    after = read_capabilities(engine, cache)
    assert len({before.sha256, after.sha256, sha256_of(engine.path)}) == 3
    assert len(asked(engine)) == 4


def test_a_library_under_three_names_is_read_once(tmp_path: Path) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    (engine.folder / "libllama.so.0.5.0").write_text("one")
    before = read_capabilities(engine, cache)
    for name in ("libllama.so.0", "libllama.so"):
        (engine.folder / name).symlink_to("libllama.so.0.5.0")
    assert read_capabilities(engine, cache) == before
    assert len(list((cache / "capabilities").iterdir())) == 3  # two digests' notes and the answer


@pytest.mark.parametrize(
    "rubbish", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"\xff\x00", b'{"sha256": 3}']
)
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, rubbish: bytes) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    first = read_capabilities(engine, cache)
    for file in (cache / "capabilities").iterdir():
        file.write_bytes(rubbish)
    assert first == read_capabilities(engine, cache)
    assert len(asked(engine)) == 4


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    engine = server(tmp_path / "engine")
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    assert read_capabilities(engine, cache) == read_capabilities(engine, cache)


def test_many_writers_leave_one_whole_answer(tmp_path: Path) -> None:
    engine, cache = server(tmp_path / "engine"), tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: read_capabilities(engine, cache), range(16)))
    assert len({answer.sha256 for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    assert (
        len(list((cache / "capabilities").iterdir())) == 2
    )  # the digest's note and the answer; no leftovers


def test_variables_that_would_change_the_engine_are_kept_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "12")
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0,0")
    engine = talker(tmp_path, f'env > "{tmp_path}/environment"')
    ask_engine(engine.path, "--list-devices")
    environment = (tmp_path / "environment").read_text()
    assert "LLAMA_ARG_" not in environment
    assert "GGML_VK_VISIBLE_DEVICES=0,0" in environment


def test_another_program_is_not_a_llama_server(tmp_path: Path) -> None:
    engine = talker(tmp_path, "echo GNU hello, version 2.12")
    with pytest.raises(UsageError, match="is not a llama-server: its --version says 'GNU hello"):
        read_capabilities(engine, tmp_path / "cache")


def test_an_engine_that_fails_says_its_last_line(tmp_path: Path) -> None:
    engine = talker(tmp_path, "echo one >&2; echo the disk is upside down >&2; exit 3")
    with pytest.raises(EngineFailed, match="--version ended with status 3: the disk is upside down"):
        read_capabilities(engine, tmp_path / "cache")


def test_an_engine_for_another_processor(tmp_path: Path) -> None:
    engine = talker(tmp_path, "kill -ILL $$")
    with pytest.raises(EngineFailed, match="was built for another processor"):
        read_capabilities(engine, tmp_path / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the dynamic loader of Linux")
def test_an_engine_that_lost_a_library(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int x(void) { return 0; }\nint main(void) { return x(); }\n")
    library, program = tmp_path / "libx.so", tmp_path / "llama-server"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    source.write_text("int x(void);\nint main(void) { return x(); }\n")
    subprocess.run(["cc", "-o", program, source, library], check=True)
    library.unlink()
    engine = Engine(path=program, folder=tmp_path, source=EngineSource.OPTION)
    with pytest.raises(EngineFailed, match=r"misses a shared library: .*libx\.so"):
        read_capabilities(engine, tmp_path / "cache")


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "llama-server"
    path.write_bytes(os.urandom(64))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    engine = Engine(path=path, folder=tmp_path, source=EngineSource.OPTION)
    with pytest.raises(UsageError, match="cannot be started: Exec format error"):
        read_capabilities(engine, tmp_path / "cache")
