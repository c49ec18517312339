"""The search for an engine: order, and one sentence for each way a named one can be wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

import pytest

from launcher.engine.ask import ask_engine
from launcher.engine.find import (
    RECORD,
    RECORD_FORMAT,
    BuildRecord,
    EngineSource,
    find_engine,
    parse_record,
    read_engines,
)
from launcher.engine.host_cpu import host_cpu
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import EngineFailed, LauncherError, NotFound, UsageError
from launcher.machine.machine import Backend

CPU = host_cpu()
RECORDED = BuildRecord(
    key="0.3.36-cpu-00000000",
    version=LLAMA_CPP.version,
    commit=LLAMA_CPP.commit,
    backend=Backend.CPU,
    arguments=("-DGGML_NATIVE=ON",),
    compiler="c++ 12.2.0",
    toolkit=None,
    arch=CPU.arch,
    isa=CPU.flags,
    patched=False,
    built_at=1_000,
    sha256="0" * 64,
)


def program(path: Path, content: bytes = b"#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def built(engines: Path, record: BuildRecord) -> Path:
    path = program(engines / record.key / "llama-server")
    (path.parent / RECORD).write_text(json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}))
    return path


@pytest.fixture(autouse=True)
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_order(tmp_path: Path, empty_path: Path) -> None:
    engines = tmp_path / "engines"
    explicit, configured = program(tmp_path / "one/llama-server"), program(tmp_path / "two/llama-server")
    here, on_path = built(engines, RECORDED), program(empty_path / "llama-server")

    def found(*named: Path | None) -> tuple[EngineSource, Path]:
        engine = find_engine(named[0], named[1], engines)
        return engine.source, engine.path

    assert found(explicit, configured) == (EngineSource.OPTION, explicit)
    assert found(None, configured) == (EngineSource.CONFIGURED, configured)
    assert found(None, None) == (EngineSource.BUILT, here)
    (here.parent / RECORD).unlink()
    assert found(None, None) == (EngineSource.PATH, on_path)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no engine: none built in") as caught:
        find_engine(None, None, tmp_path / "engines")
    assert "launcher engine install" in str(caught.value.hint)
    assert "--engine PATH" in str(caught.value.hint)


def test_this_machines_backend_before_a_newer_engine_before_an_older_one(tmp_path: Path) -> None:
    for number, (backend, built_at) in enumerate(
        [(Backend.CPU, 1), (Backend.CPU, 2), (Backend.VULKAN, 3), (Backend.CUDA, 1)]
    ):
        record = dataclasses.replace(RECORDED, key=f"k{number}", backend=backend, built_at=built_at)
        built(tmp_path, record)
    wanted = {
        backend: find_engine(None, None, tmp_path, backend=lambda each=backend: each) for backend in Backend
    }
    assert wanted[Backend.CPU].folder.name == "k1"
    assert wanted[Backend.CUDA].folder.name == "k3"
    assert wanted[Backend.HIP].folder.name == "k2"  # none such: the newest
    assert find_engine(None, None, tmp_path).folder.name == "k2"


def test_the_pinned_version_before_any_other(tmp_path: Path) -> None:
    built(tmp_path, dataclasses.replace(RECORDED, key="old", version="0.3.30", built_at=9_000))
    built(tmp_path, RECORDED)
    assert find_engine(None, None, tmp_path).folder.name == RECORDED.key


def test_an_engine_for_a_better_processor_is_not_used(tmp_path: Path) -> None:
    built(tmp_path, dataclasses.replace(RECORDED, isa=(*CPU.flags, "avx1024")))
    with pytest.raises(NotFound, match="was built for this kind of processor"):
        find_engine(None, None, tmp_path)
    assert len(read_engines(tmp_path)) == 1
    built(tmp_path, dataclasses.replace(RECORDED, key="lesser", isa=CPU.flags[1:]))
    assert find_engine(None, None, tmp_path).folder.name == "lesser"


def test_a_named_folder_and_a_link_lead_to_the_libraries(tmp_path: Path) -> None:
    path = program(tmp_path / "real/llama-server")
    assert find_engine(tmp_path / "real", None, tmp_path).path == path
    link = tmp_path / "link"
    link.symlink_to(path)
    engine = find_engine(link, None, tmp_path)
    assert (engine.path, engine.folder) == (link, path.parent)


def test_a_named_engine_that_was_built_here_keeps_its_record(tmp_path: Path) -> None:
    path = built(tmp_path, RECORDED)
    assert find_engine(path, None, tmp_path).build == RECORDED


@pytest.mark.parametrize("source", [EngineSource.OPTION, EngineSource.CONFIGURED])
def test_a_named_engine_that_is_not_there(tmp_path: Path, source: EngineSource) -> None:
    path = tmp_path / "nowhere" / "llama-server"
    named = (path, None) if source is EngineSource.OPTION else (None, path)
    with pytest.raises(NotFound, match=f"{source}: {path} does not exist"):
        find_engine(*named, tmp_path)


def test_a_named_file_that_is_not_executable(tmp_path: Path) -> None:
    path = tmp_path / "llama-server"
    path.write_text("")
    with pytest.raises(UsageError, match="is not executable") as caught:
        find_engine(path, None, tmp_path)
    assert caught.value.hint == f"chmod +x {path}"


def test_a_program_for_another_architecture(tmp_path: Path) -> None:
    machine = 183 if platform.machine() == "x86_64" else 62
    elf = b"\x7fELF\x02\x01\x01" + b"\x00" * 9 + b"\x02\x00" + machine.to_bytes(2, "little") + b"\x00" * 44
    path = program(tmp_path / "llama-server", elf)
    with pytest.raises(LauncherError, match=f"is for .*, this machine is {platform.machine()}"):
        find_engine(path, None, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format": 0}', '{"format": 1, "key": "x"}', "\x00"]
)
def test_a_damaged_record_is_none(text: str) -> None:
    assert parse_record(text) is None


def test_a_record_survives_json() -> None:
    text = json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(RECORDED)})
    assert parse_record(text) == RECORDED
    assert parse_record(text.replace('"cpu"', '"abacus"')) is None


def test_an_engine_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.engine.ask.ASK_TIMEOUT_S", 1.0)
    alive = tmp_path / "alive"  # open for writing as long as the child lives
    os.mkfifo(alive)
    hanging = tmp_path / "llama-server"
    sleeps = f"{sys.executable} -c 'import time; time.sleep(1000)'"
    hanging.write_text(f"#!/bin/sh\n{sleeps} > {alive} &\necho started > {tmp_path}/child\nwait\n")
    hanging.chmod(0o755)
    reading = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(EngineFailed, match="did not end within"):
        ask_engine(hanging, "--version")
    assert (tmp_path / "child").read_text() == "started\n"
    os.set_blocking(reading, True)
    assert os.read(reading, 1) == b""  # returns once nobody can write any more
    os.close(reading)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_an_engine_that_a_stranger_has_put_there_is_none(tmp_path: Path) -> None:
    ours = built(tmp_path / "e", RECORDED)
    planted = built(
        tmp_path / "e", dataclasses.replace(RECORDED, key="planted", built_at=RECORDED.built_at + 1)
    )
    assert len(read_engines(tmp_path / "e")) == 2
    os.chown(planted.parent, 65534, 65534)
    assert [engine.folder for engine in read_engines(tmp_path / "e")] == [ours.parent]
    os.chown(tmp_path / "e", 65534, 65534)  # whoever owns the place may put engines there
    assert len(read_engines(tmp_path / "e")) == 2
