"""The simulator as planning uses it: on a hollow copy of the model, with answers remembered.

An answer depends on the question, the model's headers, the llama.cpp that answers and the processor that runs it, on
nothing else: it is kept under a hash of these, so that planning the same again costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from launcher.engine.capabilities import engine_digest
from launcher.engine.find import Engine, list_engines
from launcher.errors import LauncherError
from launcher.hub.located import LocalFiles, Located
from launcher.hub.store import prune_to_count, write_atomically, write_hollow
from launcher.machine import Machine
from launcher.model import Shard
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.probe.host import read_host
from launcher.probe.kernel_files import KernelFiles
from launcher.settings import Settings
from launcher.simulate.client import Simulators
from launcher.simulate.wire import answer_from, to_json

FORMAT = 1
"""Of kept answers; raised whenever the simulator itself answers differently."""

MOST_ANSWERS = 4096
"""Kept, of about 2 KB each."""
MOST_HOLLOW = 64
"""Models whose hollow copies are kept: up to 8 MB each on disk, of Kimi's size."""


class Simulations:
    """An Oracle for one model on `machine`, which need not be this one. Close it to end its workers; none runs before
    the first unknown question."""

    def __init__(self, located: Located, engine: Engine | None, settings: Settings, machine: Machine) -> None:
        self._located = located
        self._engine = _simulator(engine, settings)
        self._cache_dir = settings.cache_dir.absolute()  # workers run in another folder
        self._folder = self._cache_dir / "simulations"
        self._hollow = self._cache_dir / "hollow" / _digest(located)
        self._simulators: Simulators | None = None
        self._cpu = (platform.machine(), *sorted(read_host(KernelFiles()).cpu.isa))
        self._other_cpu = self._cpu != (machine.arch, *sorted(machine.cpu.isa))
        self._simulated_by: str | None = None

    @property
    def model(self) -> str:
        """The path of the first shard: the model itself where it is here, else its hollow copy's."""
        match self._located.files:
            case LocalFiles(paths=paths):
                return str(paths[0].absolute())
            case _:
                return str(self._hollow / Path(self._located.model.shards[0].name).name)

    def simulate(self, question: Question) -> Answer | Refusal:
        """What llama.cpp would allocate; a Refusal where there is no library to ask."""
        if self._engine is None:
            return Refusal(
                reason="there is no engine to simulate with (launcher engine build)", model_refused=False
            )
        kept = self._folder / f"{self._key(question)}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = answer_from(json.loads(kept.read_text()))
            with contextlib.suppress(OSError):  # somebody else's cache
                os.utime(kept)  # last used: the oldest go first
            return replace(known, other_cpu=self._other_cpu)
        try:
            self._prepare()
        except LauncherError as error:
            return Refusal(reason=error.message, model_refused=False)
        if self._simulators is None:
            build = self._engine.build
            self._simulators = Simulators(self._engine.folder, version=build.commit if build else None)
        answer = self._simulators.simulate(question)
        if isinstance(answer, Answer):
            with contextlib.suppress(OSError):
                write_atomically(kept, json.dumps(to_json(answer)).encode())
                prune_to_count(self._folder, MOST_ANSWERS)
            return replace(answer, other_cpu=self._other_cpu)
        return answer

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

    def _prepare(self) -> None:
        """The hollow copy, where the model is not here. A write may have been interrupted between two shards."""
        if isinstance(self._located.files, LocalFiles):
            return
        if not all(_has(self._hollow, shard) for shard in self._located.model.shards):
            write_hollow(self._located, self._hollow)
        with contextlib.suppress(OSError):
            os.utime(self._hollow)  # last used: the oldest go first
            prune_to_count(self._hollow.parent, MOST_HOLLOW)

    def _key(self, question: Question) -> str:
        """Free memory decides nothing once the split is given, and moves all the time."""
        fixed = len(question.devices) < 2 or bool(question.tensor_split)
        devices = tuple(
            replace(device, free_bytes=None if fixed else device.free_bytes, uuid=None, driver=None)
            for device in question.devices
        )
        about = to_json(replace(question, devices=devices, model=_digest(self._located)))
        if self._simulated_by is None and self._engine is not None:
            self._simulated_by = engine_digest(self._engine, self._cache_dir)
        text = json.dumps([FORMAT, about, self._simulated_by, self._cpu], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _has(folder: Path, shard: Shard) -> bool:
    """Whether the shard's file is there whole: it is renamed into place with its true size."""
    try:
        return (folder / Path(shard.name).name).stat().st_size == shard.size_bytes
    except OSError:
        return False


def _simulator(engine: Engine | None, settings: Settings) -> Engine | None:
    """The engine whose libraries answer: the one that will run if it was built here, else the newest that was."""
    if engine is not None and engine.build is not None:
        return engine
    built = list_engines(settings.engines_dir)
    return built[0] if built else engine


def _digest(located: Located) -> str:
    digest = hashlib.sha256()
    for shard, header in zip(located.model.shards, located.raw_headers, strict=True):
        digest.update(f"{shard.name} {shard.size_bytes}\n".encode())
        digest.update(header)
    return digest.hexdigest()[:40]
