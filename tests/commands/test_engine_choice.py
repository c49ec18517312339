"""Several engines: one is used, one comes back, a newer one has to prove itself."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from launcher.cli.show.engines import comparison_json, render_comparison
from launcher.commands import engine as engines
from launcher.commands import engine_build, engine_choice
from launcher.commands.bench import llama_bench
from launcher.commands.engine_choice import build, list_engines, remove, rollback, update, use
from launcher.commands.engine_compare import compare
from launcher.commands.engine_trial import answers
from launcher.commands.here import Here, here_with
from launcher.engine.default import read_default, write_default
from launcher.engine.find import (
    RECORD,
    RECORD_FORMAT,
    SOURCE_TREE,
    BuildRecord,
    Engine,
    EngineSource,
    Origin,
    find_engine,
)
from launcher.engine.host_cpu import host_cpu
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import EngineFailed, LauncherError, NotFound, TryAgain, UsageError
from launcher.machine.machine import Backend
from tests.conftest import SETTINGS, missing
from tests.engine.sources.archives import RUNS, TAG, engine_archive
from tests.fakes.releases import Releases, serve_releases
from tests.fetched import other_engine

BUILT = BuildRecord(
    key="0.3.36-cpu-00000000",
    version=LLAMA_CPP.version,
    commit=LLAMA_CPP.commit,
    backend=Backend.CPU,
    arguments=(),
    compiler="c++",
    toolkit=None,
    arch=host_cpu().arch,
    isa=(),
    patched=False,
    built_at=1_000,
    sha256="0" * 64,
)
ORIGIN = Origin(kind="release", made_by="ggml-org", file="x.tar.gz", sha256="1" * 64)


def put(
    here: Here, key: str, *, origin: Origin | None = ORIGIN, backend: Backend = Backend.CPU, at: int = 1
) -> Path:
    folder = here.settings.engines_dir / key
    folder.mkdir(parents=True)
    (folder / "llama-server").write_text(RUNS)
    (folder / "llama-server").chmod(0o755)
    record = dataclasses.replace(BUILT, key=key, origin=origin, backend=backend, built_at=at)
    (folder / RECORD).write_text(json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}))
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    monkeypatch.setenv("PATH", str(tmp_path))  # no llama-server
    return here_with()


def used(here: Here) -> str:
    return engines.find(here, None).folder.name


def test_a_fork_is_taken_by_its_name_or_where_nothing_else_is(here: Here) -> None:
    fork = dataclasses.replace(ORIGIN, kind=SOURCE_TREE)
    put(here, "ik_llama.cpp-cpu-aa", origin=fork, at=9)
    assert used(here) == "ik_llama.cpp-cpu-aa"
    put(here, "b1-cpu-bb", at=1)
    assert used(here) == "b1-cpu-bb"
    assert engines.find(here, Path("ik")).folder.name == "ik_llama.cpp-cpu-aa"
    put(here, "b1-vulkan-cc", origin=fork, backend=Backend.VULKAN, at=9)
    assert used(here) == "b1-cpu-bb"  # there is no GPU that only the fork would use


def test_one_is_used_until_another_is_and_comes_back(here: Here) -> None:
    put(here, "b1-cpu-aa", at=1)
    put(here, "b2-cpu-bb", at=2)
    assert used(here) == "b2-cpu-bb"  # nobody has chosen: the newest
    assert use(here, "b1").folder.name == "b1-cpu-aa"
    assert used(here) == "b1-cpu-aa"
    assert list_engines(here).is_chosen
    assert rollback(here).folder.name == "b2-cpu-bb"
    with pytest.raises(NotFound, match="no engine was used before this one"):
        rollback(here)
    assert use(here, "auto").folder.name == "b2-cpu-bb"
    assert not list_engines(here).is_chosen


def test_a_name_or_its_beginning_names_an_engine_for_one_command(here: Here, tmp_path: Path) -> None:
    folder = put(here, "b1-cpu-aa")
    put(here, "b1-vulkan-aa")
    engine = find_engine(Path("b1-cpu"), None, here.settings.engines_dir)
    assert (engine.path, engine.source) == (folder / "llama-server", EngineSource.OPTION)
    with pytest.raises(UsageError, match="several engines begin with b1: b1-cpu-aa, b1-vulkan-aa"):
        find_engine(Path("b1"), None, here.settings.engines_dir)
    with pytest.raises(NotFound, match="b7 does not exist"):
        find_engine(Path("b7"), None, here.settings.engines_dir)


def test_a_choice_that_is_gone_or_unreadable_is_none(here: Here) -> None:
    put(here, "b1-cpu-aa")
    write_default(here.settings.engines_dir, "gone")
    assert used(here) == "b1-cpu-aa"
    file = here.settings.engines_dir / "default.json"
    for text in ("", "{", "[]", '{"format": 1, "name": "../x", "before": []}', '{"format": 9}', "\0" * 9):
        file.write_text(text)
        assert read_default(here.settings.engines_dir) is None
        assert used(here) == "b1-cpu-aa"


def test_one_that_is_built_here_comes_before_others_and_one_without_the_gpu_last(here: Here) -> None:
    put(here, "b2-cpu-bb", at=9)
    put(here, "native", origin=None, at=1)
    folder = here.settings.engines_dir
    assert find_engine(None, None, folder, backend=lambda: Backend.CPU).folder.name == "native"
    put(here, "b2-cuda-cc", backend=Backend.CUDA, at=2)
    assert find_engine(None, None, folder, backend=lambda: Backend.CUDA).folder.name == "b2-cuda-cc"
    put(here, "b2-vulkan-dd", backend=Backend.VULKAN, at=3)
    assert find_engine(None, None, folder, backend=lambda: Backend.HIP).folder.name == "b2-vulkan-dd"


def test_a_build_takes_the_place_of_what_was_chosen(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    put(here, "b2-cpu-bb", at=9)
    use(here, "b2")
    native = put(here, "native", origin=None)
    found = Engine(path=native / "llama-server", folder=native, source=EngineSource.BUILT, build=BUILT)
    monkeypatch.setattr(engine_build, "build", lambda *_, **__: (found,))
    build(here, ())
    assert used(here) == "native"
    assert rollback(here).folder.name == "b2-cpu-bb"


def test_an_engine_is_removed_and_no_longer_chosen(here: Here) -> None:
    put(here, "b1-cpu-aa", at=1)
    folder = put(here, "b2-cpu-bb", at=2)
    use(here, "b2")
    remove(here, "b2")
    assert not folder.exists()
    assert read_default(here.settings.engines_dir) is None
    assert used(here) == "b1-cpu-aa"
    with pytest.raises(NotFound, match="no engine is called b2: there is b1-cpu-aa"):
        remove(here, "b2")


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    with serve_releases() as running:
        monkeypatch.setenv("LAUNCHER_RELEASES", running.url)
        for name in ("x64", "arm64"):
            running.published.setdefault(TAG, {})[f"llama-{TAG}-bin-ubuntu-{name}.tar.gz"] = engine_archive()
        yield running


def test_an_update_that_fails_its_trial_leaves_the_old_engine(releases: Releases, here: Here) -> None:
    put(here, "b1-cpu-aa")
    again = here_with()
    with pytest.raises(EngineFailed, match="failed its trial, and b1-cpu-aa is still used") as caught:
        update(again, None)
    assert "launcher engine rm" in str(caught.value.hint)
    assert used(here) == "b1-cpu-aa"
    assert len(list_engines(here).engines) == 2  # the new one can be looked at


def test_an_update_without_the_releases_changes_nothing(releases: Releases, here: Here) -> None:
    put(here, "b1-cpu-aa")
    releases.status = 503
    with pytest.raises(TryAgain):
        update(here_with(), None)
    assert used(here) == "b1-cpu-aa"
    assert read_default(here.settings.engines_dir) is None


def test_an_update_to_what_is_there_announces_and_chooses_nothing(
    releases: Releases, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "try_engine", lambda *_: ())
    first = update(here_with(), None)
    said: list[str] = []
    use(here, "auto")
    again = update(here_with(lambda step: said.append(step.text)), None)
    assert (again.engine, again.sentences) == (first.engine, ("it is the newest already",))
    assert said == []
    assert read_default(here.settings.engines_dir) is None


@pytest.mark.engine
def test_a_real_engine_answers_in_its_trial(engine: Engine, default_model: Path) -> None:
    assert 0 < answers(engine, default_model) < 120


@pytest.mark.engine
def test_a_trial_says_why_a_real_engine_did_not_load(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(EngineFailed, match="it ended with status 1 while it loaded the model: "):
        answers(engine, tmp_path / "model.gguf")


@pytest.mark.engine
def test_a_real_engine_beside_another_of_another_commit(engine: Engine, here: Here) -> None:
    try:
        other = other_engine(SETTINGS.cache_dir).parent
    except LauncherError as error:
        raise missing(f"the engine of another commit cannot be had: {error.message}") from error
    here.settings.engines_dir.mkdir(parents=True)
    for name, folder in (("pinned", engine.folder), ("other", other)):
        target = here.settings.engines_dir / name
        shutil.copytree(folder, target, symlinks=True)
        mine = {"origin": None} if name == "pinned" else {"origin": ORIGIN, "commit": "7e4c0a9"}
        record = dataclasses.replace(BUILT, key=name, **mine)
        (target / RECORD).write_text(json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}))
    found = compare(here, "other", "pinned", "smollm2-135m")
    assert found.speed == ()
    assert "--lazy-mode" in found.gained
    assert not set(found.gained) & set(found.lost)
    simulated = [side.plan.simulated_by for side in (found.before, found.after)]
    assert None not in simulated
    assert simulated[0] != simulated[1]
    before, after = found.before.bytes_by_place, found.after.bytes_by_place
    assert before.keys() == after.keys()


@pytest.mark.engine
def test_speed_is_measured_if_asked_for(
    engine: Engine, here: Here, default_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        target = here.settings.engines_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(engine.folder, target, symlinks=True)
        record = dataclasses.replace(BUILT, key=name, origin=None)
        (target / RECORD).write_text(json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}))
    short = partial(llama_bench.Tests, prompt=16, reply=4, repetitions=1)
    monkeypatch.setattr("launcher.commands.engine_compare.Tests", short)
    found = compare(here, "one", "two", str(default_model), measures=True)
    assert {row.what for row in found.speed} >= {"prompt, llama-bench", "reply, llama-bench"}
    assert all(row.now.median > 0 and row.before.median > 0 for row in found.speed)
    document = comparison_json(found)
    assert [row["what"] for row in document["speed"]] == [row.what for row in found.speed]
    shown = io.StringIO()
    Console(width=200, file=shown).print(render_comparison(found))
    assert "tokens/s (" in shown.getvalue()
