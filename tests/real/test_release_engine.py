"""An engine as upstream ships it, from a releases API on loopback: installed, planned, simulated as its log says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.commands.engine_choice import rollback, update
from launcher.commands.engine_install import install
from launcher.commands.here import Here, here_with
from launcher.engine.find import Engine
from launcher.machine.machine import Backend
from launcher.plan.oracle import Answer
from launcher.simulate.client import SimulatorPool
from tests.conftest import SETTINGS, missing
from tests.fakes.releases import Releases, serve_releases
from tests.release_archive import TAG, archive_in
from tests.simulate.cases import configurations
from tests.simulate.engine_log import load_with_engine, out_of_bounds

pytestmark = pytest.mark.engine


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    archive = archive_in(SETTINGS.cache_dir)
    if not archive.is_file():
        raise missing("no release archive (python -m tests.release_archive)")
    with serve_releases() as running:
        running.published[TAG] = {archive.name: archive.read_bytes()}
        running.pointer = f"{TAG}\n".encode()
        monkeypatch.setenv("LAUNCHER_RELEASES", running.url)
        yield running


@pytest.fixture
def installed(releases: Releases) -> Engine:
    return install(here_with(), None, Backend.CPU).engine


def test_its_plugins_are_loaded_and_its_rows_are_those_of_its_log(
    installed: Engine, default_model: Path
) -> None:
    assert not (installed.folder / "libggml-cpu.so.0").exists()
    assert (installed.folder / "libggml-cpu-x64.so").exists()
    wrong = {}
    with SimulatorPool(installed.folder) as simulators:
        for what, question in list(configurations({"default": default_model}, ()))[:3]:
            answer = simulators.simulate(question)
            assert isinstance(answer, Answer), answer
            load = load_with_engine(installed.path, question)
            assert answer.graph_splits == load.splits
            wrong[what] = out_of_bounds(load, answer)
    assert len(wrong) == 3
    assert not {what: rows for what, rows in wrong.items() if rows}


def test_an_update_that_proves_itself_is_used_and_can_be_taken_back(
    releases: Releases, engine: Engine, default_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: Here = here_with()
    monkeypatch.setattr("launcher.commands.engine_trial._model_path", lambda *_: default_model)
    first = install(here, None, Backend.CPU).engine
    releases.published["b11030"] = {
        name.replace(TAG, "b11030"): content for name, content in releases.published[TAG].items()
    }
    done = update(here, "b11030")
    assert done.before is not None
    assert done.before.folder == first.folder
    assert "smollm2-135m answered after" in done.sentences[-1]
    assert "simulated by llama.cpp" in done.sentences[-1]
    assert done.engine.folder.name.startswith("b11030-cpu-")
    assert rollback(here).folder == first.folder
