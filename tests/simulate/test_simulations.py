"""Simulations of one model: hollow copies, the key of a kept answer, and other processors."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine, EngineSource
from launcher.machine.machine import Backend, Device, Machine
from launcher.machine.probe.host import read_host
from launcher.machine.probe.proc_files import KernelFiles
from launcher.models.local import open_path
from launcher.models.located import Located, SavedHeaders
from launcher.plan.oracle import Answer, FitQuestion, Fitted, Question, Refusal
from launcher.simulate import client, simulations
from launcher.simulate.client import SimulatorPool
from launcher.simulate.simulations import Simulations
from launcher.system.settings import Settings, read_settings
from launcher.units import GIB
from tests.make_gguf import make_gguf
from tests.plan.shapes import machine


@pytest.fixture
def settings() -> Settings:
    return read_settings()


@pytest.fixture
def remote(tmp_path: Path) -> Located:
    """Three shards of a model of which only the headers are here."""
    paths = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True, splits=3)
    return replace(open_path(paths[0]), files=SavedHeaders(path=tmp_path / "m.headers"))


def this_machine() -> Machine:
    return replace(machine(), arch=platform.machine(), cpu=read_host(KernelFiles()).cpu)


def question(oracle: Simulations) -> Question:
    return Question(model=oracle.model, devices=(), ctx_size=4096)


def fake_engine(folder: Path) -> Engine:
    """Write a server program and the libraries that do its work."""
    folder.mkdir()
    for name in ("llama-server", "libllama.so.0.5.0", "libggml-base.so.0.25.3", "libllama-server-impl.so"):
        (folder / name).write_text(name)
    (folder / "libllama.so").symlink_to("libllama.so.0.5.0")
    return Engine(path=folder / "llama-server", folder=folder, source=EngineSource.OPTION)


@pytest.mark.engine
class TestHollowCopies:
    @pytest.mark.parametrize("lost", [1, 2])
    def test_an_interrupted_copy_is_written_again(
        self, lost: int, engine: Engine, remote: Located, settings: Settings
    ) -> None:
        with Simulations(remote, engine, settings, this_machine()) as oracle:
            assert isinstance(oracle.simulate(question(oracle)), Answer)
            shards = sorted(Path(oracle.model).parent.iterdir())
        assert len(shards) == 3
        shards[lost].unlink()
        os.truncate(shards[0], 5)
        with Simulations(remote, engine, settings, this_machine()) as oracle:
            assert isinstance(oracle.simulate(replace(question(oracle), ctx_size=8192)), Answer)

    def test_only_some_are_kept(
        self, engine: Engine, remote: Located, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(simulations, "_MAX_HOLLOW_COPIES", 2)
        monkeypatch.setattr(simulations, "_MAX_ANSWERS", 3)
        for number in range(4):
            model = replace(
                remote.model,
                shards=tuple(
                    replace(shard, name=f"m{number}-0000{index}-of-00003.gguf")
                    for index, shard in enumerate(remote.model.shards, 1)
                ),
            )
            with Simulations(replace(remote, model=model), engine, settings, this_machine()) as oracle:
                assert isinstance(oracle.simulate(question(oracle)), Answer)
            assert Path(oracle.model).is_file()
        assert len(list((settings.cache_dir / "hollow").iterdir())) == 2
        assert len(list((settings.cache_dir / "simulations").iterdir())) == 3

    def test_a_cache_named_by_a_relative_path(
        self,
        engine: Engine,
        remote: Located,
        settings: Settings,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        relative = replace(settings, cache_dir=Path("cache"))
        with Simulations(remote, engine, relative, this_machine()) as oracle:
            assert isinstance(oracle.simulate(question(oracle)), Answer)


class TestTheKeyOfAnAnswer:
    @pytest.mark.parametrize("name", ["libllama.so.0.5.0", "libggml-base.so.0.25.3", "llama-server"])
    def test_another_library_is_another_engine(
        self, name: str, remote: Located, settings: Settings, tmp_path: Path
    ) -> None:
        engine = fake_engine(tmp_path / "engine")
        keys = []
        for _ in range(2):
            oracle = Simulations(remote, engine, settings, this_machine())
            keys.append(oracle._key(question(oracle)))
            (engine.folder / name).write_text("another build")
        assert keys[0] != keys[1]

    def test_where_the_model_lies_decides_nothing(
        self, settings: Settings, remote: Located, tmp_path: Path
    ) -> None:
        engine = fake_engine(tmp_path / "engine")
        here = Simulations(open_path(Path(remote.model.source)), engine, settings, this_machine())
        there = Simulations(remote, engine, settings, this_machine())
        assert here.model != there.model
        assert here._key(question(here)) == there._key(question(there))


@pytest.mark.engine
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_for_another_processor_says_so(
    kept: bool, engine: Engine, remote: Located, settings: Settings
) -> None:
    mine = this_machine()
    machines = [
        mine,
        replace(mine, cpu=replace(mine.cpu, isa=("AVX",))),
        replace(mine, arch="mips"),
    ]
    said = []
    for planned in machines:
        with Simulations(remote, engine, settings, planned) as oracle:
            answer = oracle.simulate(question(oracle))
            answer = oracle.simulate(question(oracle)) if kept else answer
            assert isinstance(answer, Answer)
            said.append(answer.other_cpu)
    assert said == [False, True, True]


@pytest.mark.engine
class TestAnEngineThatWasNotBuiltHere:
    def test_its_own_libraries_answer(self, engine: Engine, remote: Located, settings: Settings) -> None:
        theirs = replace(engine, build=None)
        with Simulations(remote, theirs, settings, this_machine()) as oracle:
            answer = oracle.simulate(question(oracle))
        assert isinstance(answer, Answer)
        assert "ggml" in answer.engine  # a source archive's library knows no commit, and no record names one

    def test_another_answers_where_its_libraries_cannot(
        self, engine: Engine, remote: Located, settings: Settings, tmp_path: Path
    ) -> None:
        if engine.build is None:
            pytest.skip("the engine was not built by this launcher")
        theirs = fake_engine(tmp_path / "engine")
        (theirs.folder / "libllama.so.0").symlink_to("libllama.so.0.5.0")
        settings.engines_dir.mkdir(parents=True)
        (settings.engines_dir / engine.folder.name).symlink_to(engine.folder)
        with Simulations(remote, theirs, settings, this_machine()) as oracle:
            first, second = (oracle.simulate(question(oracle)) for _ in range(2))
        assert isinstance(first, Answer)
        assert engine.build.commit in first.engine
        assert first == second


@pytest.mark.engine
class TestFit:
    @pytest.fixture
    def card(self) -> Device:
        return Device(id="CUDA0", backend=Backend.CUDA, name="A100", total_bytes=GIB, free_bytes=GIB)

    def test_what_it_answers_is_kept_for_the_same_free_memory_only(
        self,
        card: Device,
        engine: Engine,
        remote: Located,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with Simulations(remote, engine, settings, this_machine()) as oracle:
            asked = fit_question(oracle, card)
            first = oracle.fit(asked)
            monkeypatch.setattr(SimulatorPool, "fit", lambda *_: pytest.fail("it is asked again"))
            assert isinstance(first, Fitted)
            assert oracle.fit(asked) == first
            with pytest.raises(pytest.fail.Exception):
                oracle.fit(fit_question(oracle, replace(card, free_bytes=GIB // 2)))

    def test_one_that_takes_too_long_silences_no_simulation(
        self,
        card: Device,
        engine: Engine,
        remote: Located,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client, "MOST_TRIALS", 0)
        with Simulations(remote, engine, settings, this_machine()) as oracle:
            fitted = oracle.fit(fit_question(oracle, card))
            assert isinstance(fitted, Refusal)
            assert fitted.is_unanswered
            assert isinstance(oracle.simulate(question(oracle)), Answer)


def fit_question(oracle: Simulations, card: Device) -> FitQuestion:
    asked = replace(question(oracle), devices=(card,), ctx_size=0)
    return FitQuestion(question=asked, targets=(64 << 20,), least_ctx_size=512, host_bytes=GIB)
