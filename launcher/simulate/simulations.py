"""The simulator as planning uses it: on a hollow copy of the model, with answers kept on disk.

An answer depends on the question, the model's headers, the llama.cpp that answers and the processor that runs
it. It is kept under a hash of these, so that planning the same again costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from launcher.engine.capabilities import engine_digest
from launcher.engine.find import Engine, read_engines
from launcher.errors import LauncherError
from launcher.gguf.model import Shard
from launcher.machine.machine import Device, Machine
from launcher.machine.probe.host import read_host
from launcher.machine.probe.proc_files import KernelFiles
from launcher.models.hollow_copies import write_hollow
from launcher.models.located import LocalFiles, Located
from launcher.models.store import prune_to_count
from launcher.plan.oracle import (
    Answer,
    DraftAnswer,
    DraftQuestion,
    FitQuestion,
    Fitted,
    Oracle,
    ProjectorAnswer,
    ProjectorQuestion,
    Question,
    Refusal,
)
from launcher.simulate.client import SimulatorPool
from launcher.simulate.wire import (
    answer_from,
    draft_answer_from,
    fitted_from,
    projector_answer_from,
    to_json,
)
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import parse_json
from launcher.system.settings import Settings
from launcher.system.small_files import read_small

_ANSWER_FORMAT = 2  # raised whenever the simulator itself answers differently
_MAX_ANSWERS = 4096  # kept, of about 2 KB each
_MAX_HOLLOW_COPIES = 64  # kept, of up to 8 MB each on disk (a model of Kimi's size)

_Result = TypeVar(
    "_Result", Answer | Refusal, DraftAnswer | Refusal, ProjectorAnswer | Refusal, Fitted | Refusal
)


class Simulations:
    """An Oracle for one model on `machine`, which need not be this one. `close` ends its workers."""

    def __init__(self, located: Located, engine: Engine | None, settings: Settings, machine: Machine) -> None:
        self._located = located
        self._engine, self._spare = _choose_engines(engine, settings)
        self._cache_dir = settings.cache_dir.absolute()  # workers run in another folder
        self._folder = self._cache_dir / "simulations"
        self._hollow = self._cache_dir / "hollow" / _digest(located)
        self._simulators: SimulatorPool | None = None
        self._cpu = (platform.machine(), *sorted(read_host(KernelFiles()).cpu.isa))
        self._other_cpu = self._cpu != (machine.arch, *sorted(machine.cpu.isa))
        self._simulated_by: str | None = None
        self._silence: Refusal | None = None  # asked again, it would cost as much and answer as little

    @property
    def model(self) -> str:
        """The path of the first shard, of the model itself or of its hollow copy."""
        match self._located.files:
            case LocalFiles(paths=paths):
                return str(paths[0].absolute())
            case _:
                return str(self._hollow / Path(self._located.model.shards[0].name).name)

    @property
    def digest(self) -> str:
        """A name for the model's headers."""
        return _digest(self._located)

    def simulate(self, question: Question) -> Answer | Refusal:
        """Return what llama.cpp would allocate, or a Refusal if there is no library to ask."""
        answer = self._answer(
            lambda: self._key(question), answer_from, lambda simulators: simulators.simulate(question)
        )
        return replace(answer, other_cpu=self._other_cpu) if isinstance(answer, Answer) else answer

    def simulate_draft(self, question: DraftQuestion, draft: Oracle | None) -> DraftAnswer | Refusal:
        """Return what a draft context takes beside this model's."""
        own = draft if isinstance(draft, Simulations) else None
        answer = self._answer(
            lambda: self._draft_key(question, own),
            draft_answer_from,
            lambda simulators: simulators.simulate_draft(question),
            own,
        )
        return replace(answer, other_cpu=self._other_cpu) if isinstance(answer, DraftAnswer) else answer

    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        """Return what llama.cpp would allocate for a multimodal projector."""
        return self._answer(
            lambda: self._projector_key(question),
            projector_answer_from,
            lambda simulators: simulators.simulate_projector(question),
        )

    def fit(self, question: FitQuestion) -> Fitted | Refusal:
        """Return what llama-server's `--fit` would make of a line."""
        silence = self._silence
        fitted = self._answer(
            lambda: self._fit_key(question), fitted_from, lambda simulators: simulators.fit(question)
        )
        self._silence = silence  # many simulations took too long: a single one may do
        return fitted

    def close(self) -> None:
        if self._simulators is not None:
            self._simulators.close()
            self._simulators = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(
        self,
        key: Callable[[], str],
        read: Callable[[dict[str, Any]], _Result],
        ask: Callable[[SimulatorPool], _Result],
        beside: Simulations | None = None,
    ) -> _Result:
        """Return the answer kept under `key()`, else `ask` and keep the answer.

        `beside` has another model that is asked about in the same question.
        """
        if self._engine is None:
            return Refusal(
                reason="there is no engine to simulate with (launcher engine install)",
                model_refused=False,
                unavailable=True,
            )
        path = self._folder / f"{key()}.json"
        # an unreadable or damaged file counts as no answer
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = read(parse_json(read_small(path)))
            with contextlib.suppress(OSError):  # another user's cache
                os.utime(path)  # pruning removes those that were used longest ago
            return kept
        if self._silence is not None:
            return self._silence
        try:
            self.write_hollow_copy()
            if beside is not None:
                beside.write_hollow_copy()
        except LauncherError as error:
            self._silence = Refusal(reason=error.message, model_refused=False)
            return self._silence
        if self._simulators is None:  # no worker runs before the first question without a kept answer
            build = self._engine.build
            self._simulators = SimulatorPool(self._engine.folder, version=build.commit if build else None)
        answer = ask(self._simulators)
        if isinstance(answer, Refusal) and self._fall_back(answer):
            return self._answer(key, read, ask, beside)
        if isinstance(answer, Refusal) and answer.is_unanswered:
            self._silence = answer
        if not isinstance(answer, Refusal):
            with contextlib.suppress(OSError):
                write_atomically(path, json.dumps(to_json(answer)).encode())
                prune_to_count(self._folder, _MAX_ANSWERS)
        return answer

    def _fall_back(self, refusal: Refusal) -> bool:
        """Switch to a llama.cpp built here if the engine's own libraries cannot answer, or crash."""
        if self._spare is None or (refusal.model_refused and not refusal.crashed):
            return False
        self.close()
        self._engine, self._spare, self._simulated_by = self._spare, None, None
        return True

    def write_hollow_copy(self) -> None:
        """Write the hollow copy, unless it is there or the model itself is."""
        if isinstance(self._located.files, LocalFiles):
            return
        # every shard is looked at: a write may have been interrupted between two of them
        if not all(_has(self._hollow, shard) for shard in self._located.model.shards):
            write_hollow(self._located, self._hollow)
        with contextlib.suppress(OSError):
            os.utime(self._hollow)  # pruning removes those that were used longest ago
            prune_to_count(self._hollow.parent, _MAX_HOLLOW_COPIES)

    def _key(self, question: Question) -> str:
        return self._hash(to_json(_stateless(question, self.digest)))

    def _draft_key(self, question: DraftQuestion, draft: Simulations | None) -> str:
        model = self.digest
        own = model if draft is None else draft.digest
        main, beside = _stateless(question.main, model), _stateless(question.draft, own)
        return self._hash(to_json(replace(question, main=main, draft=beside)))

    def _projector_key(self, question: ProjectorQuestion) -> str:
        devices = tuple(_without_state(device, with_free=False) for device in question.devices)
        return self._hash(to_json(replace(question, devices=devices, model=self.digest)))

    def _fit_key(self, question: FitQuestion) -> str:
        # a draft model by its path, size and time: its digest is another Simulations'
        about = to_json(question)
        about["question"]["model"] = self.digest
        if question.companion is not None:
            with contextlib.suppress(OSError):
                state = Path(question.companion.model).stat()
                about["companion_file"] = [state.st_size, state.st_mtime_ns]
        return self._hash(about)

    def _hash(self, about: dict[str, Any]) -> str:
        if self._simulated_by is None and self._engine is not None:
            self._simulated_by = engine_digest(self._engine, self._cache_dir)
        text = json.dumps([_ANSWER_FORMAT, about, self._simulated_by, self._cpu], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _stateless(question: Question, digest: str) -> Question:
    """Return the question with the model's digest as its name, and its devices without their state."""
    # free memory changes all the time, and decides nothing once the split is given
    fixed = len(question.devices) < 2 or bool(question.tensor_split)
    devices = tuple(_without_state(device, with_free=not fixed) for device in question.devices)
    return replace(question, devices=devices, model=digest)


def _without_state(device: Device, *, with_free: bool) -> Device:
    """Return the device without those fields that change and decide nothing."""
    return replace(device, free_bytes=device.free_bytes if with_free else None, uuid=None, driver=None)


def _has(folder: Path, shard: Shard) -> bool:
    """Return True if `folder` has the whole file of the shard."""
    try:  # the size is enough: files are renamed into place complete
        return (folder / Path(shard.name).name).stat().st_size == shard.size_bytes
    except OSError:
        return False


def _choose_engines(engine: Engine | None, settings: Settings) -> tuple[Engine | None, Engine | None]:
    """Return the engine whose libraries answer, and a spare for when they cannot."""
    if engine is not None and engine.is_built_here:
        return engine, None
    # an engine not built here is asked itself if it has libraries, and the newest built here is the spare
    built = next((other for other in read_engines(settings.engines_dir) if other.is_built_here), None)
    if engine is not None and (engine.folder / "libllama.so.0").exists():
        return engine, built
    return built or engine, None


def _digest(located: Located) -> str:
    digest = hashlib.sha256()
    for shard, header in zip(located.model.shards, located.raw_headers, strict=True):
        digest.update(os.fsencode(f"{shard.name} {shard.size_bytes}\n"))
        digest.update(header)
    return digest.hexdigest()[:40]
