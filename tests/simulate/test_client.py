"""Worker processes: started, ended and replaced, and what happens when llama.cpp crashes."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.plan.oracle import Answer, Oracle, Question, Refusal
from launcher.simulate.client import SimulatorPool, _WorkerLost
from launcher.units import MIB
from tests.simulate.questions import CARDS, ask, damaged


@pytest.mark.engine
class TestContainment:
    def test_it_is_an_oracle(self, simulators: SimulatorPool) -> None:
        oracle: Oracle = simulators

        assert oracle is simulators

    def test_no_libraries(self, tmp_path: Path) -> None:
        with SimulatorPool(tmp_path) as simulators:
            answer = simulators.simulate(Question(model="x.gguf", devices=(), ctx_size=4096))

        assert isinstance(answer, Refusal)
        assert not answer.model_refused
        assert answer.reason.startswith(f"the engine's libraries in {tmp_path} cannot be loaded: ")

    def test_an_assert_costs_one_worker(
        self, engine: Engine, models: dict[str, Path], tmp_path: Path
    ) -> None:
        key = b"qwen3moe.block_count\x04\0\0\0"
        header = models["qwen3moe"].read_bytes()[: 1 << 20]
        blocks = header[header.index(key) + len(key) :][:4]
        path = damaged(models["qwen3moe"], tmp_path, key + blocks, key + (99999).to_bytes(4, "little"))

        with SimulatorPool(engine.folder) as simulators:
            fallen = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))
            after = simulators.simulate(Question(model=str(models["llama"]), devices=(), ctx_size=4096))

        assert isinstance(fallen, Refusal)
        assert fallen.model_refused
        assert "it was ended by SIGABRT: llama-model.cpp:" in fallen.reason
        assert "GGML_ASSERT(hparams.n_layer_all > 0" in fallen.reason
        assert isinstance(after, Answer)

    def test_a_worker_that_died_idle_is_replaced(self, engine: Engine, models: dict[str, Path]) -> None:
        question = Question(model=str(models["llama"]), devices=(), ctx_size=4096)
        with SimulatorPool(engine.folder) as simulators:
            before = simulators.simulate(question)
            (worker,) = simulators._workers.values()
            worker._process.send_signal(signal.SIGSEGV)
            worker._process.wait()
            after = simulators.simulate(question)

        assert isinstance(before, Answer)
        assert after == before

    def test_a_worker_stays_within_its_memory(
        self, engine: Engine, kimi: Path, models: dict[str, Path]
    ) -> None:
        with SimulatorPool(engine.folder, memory_limit_bytes=48 * MIB) as simulators:
            answer = simulators.simulate(Question(model=str(kimi), devices=(), ctx_size=4096))

        assert isinstance(answer, Refusal)

    def test_a_silent_worker_is_ended(self, engine: Engine, models: dict[str, Path]) -> None:
        question = Question(model=str(models["llama"]), devices=(), ctx_size=4096)
        with SimulatorPool(engine.folder, timeout_s=20) as simulators:
            simulators.simulate(question)
            (worker,) = simulators._workers.values()
            worker._process.send_signal(signal.SIGSTOP)
            simulators._timeout_s = 0.2
            silent = simulators.simulate(question)

            assert isinstance(silent, Refusal)
            assert silent.reason.endswith("no answer within 0.2 s")
            assert not silent.model_refused
            assert worker._process.returncode == -signal.SIGKILL

    def test_a_worker_killed_from_outside_says_nothing_about_the_model(
        self, engine: Engine, models: dict[str, Path]
    ) -> None:
        question = Question(model=str(models["llama"]), devices=(), ctx_size=4096)
        with SimulatorPool(engine.folder) as simulators:
            simulators.simulate(question)
            (worker,) = simulators._workers.values()
            worker._process.kill()
            with pytest.raises(_WorkerLost, match="it was ended by SIGKILL") as lost:
                worker.ask({"question": {}, "like_fit": False}, 20)

        assert not lost.value.model_refused

    def test_modules_in_the_users_folder_are_not_code(
        self, engine: Engine, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", f":{os.environ.get('PYTHONPATH', '')}")  # "" is the current folder
        with SimulatorPool(Path(os.path.relpath(engine.folder))) as simulators:
            ask(simulators, models["llama"], devices=())

        assert not (tmp_path / "ran").exists()

    def test_damaged_headers_are_answered_or_refused(
        self, engine: Engine, models: dict[str, Path], tmp_path: Path
    ) -> None:
        dice = random.Random(3)
        size = models["llama"].stat().st_size
        header = models["llama"].read_bytes()[: 64 << 10]
        path = tmp_path / "damaged.gguf"
        with SimulatorPool(engine.folder, timeout_s=20) as simulators:
            for _ in range(60):
                data = bytearray(header)
                for _ in range(dice.choice((1, 3))):
                    data[dice.randrange(4, len(data))] = dice.randrange(256)
                path.write_bytes(data)
                os.truncate(path, size)
                answer = simulators.simulate(Question(model=str(path), devices=CARDS[:1], ctx_size=4096))
                assert isinstance(answer, Answer) or (answer.model_refused and "\n" not in answer.reason)

    def test_only_a_few_workers_are_kept(self, engine: Engine, models: dict[str, Path]) -> None:
        with SimulatorPool(engine.folder) as simulators:
            for count in range(6):
                ask(simulators, models["llama"], devices=CARDS[:count])
            kept = list(simulators._workers)

        assert kept == [CARDS[:count] for count in (2, 3, 4, 5)]
