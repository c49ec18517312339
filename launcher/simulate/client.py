"""The simulator as the planner sees it: `SimulatorPool(lib_dir)` implements `plan.oracle.Oracle`.

It keeps one worker process for each machine shape (the devices of the question), starts a new one where one has
died, and turns whatever happens there into an Answer or a Refusal.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from launcher.machine.machine import Device
from launcher.plan.oracle import Answer, ProjectorAnswer, ProjectorQuestion, Question, Refusal
from launcher.simulate.wire import Json, answer_from, projector_answer_from, to_json
from launcher.units import GIB

_MEMORY_LIMIT_BYTES = 2 * GIB
"""Private memory of one worker. A Kimi K2.5 header with its 163840 tokens peaks at 91 MiB."""
_TIMEOUT_S = 60.0
"""One simulation; Kimi K2.5 on eight devices takes half a second."""
_MAX_WORKERS = 4
"""Machine shapes kept warm; the least recently used worker makes room."""

_HIDDEN = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "-1",
    "GGML_VK_VISIBLE_DEVICES": "",
    "ONEAPI_DEVICE_SELECTOR": "opencl:cpu",
    "GGML_NO_BACKTRACE": "1",
}
"""Real devices of this machine must not mix in; an abort must not start a debugger."""
_DROPPED_PREFIXES = ("GGML_", "LLAMA_", "CUDA_", "HIP_", "ROCR_")
_ABORT_TEXT = 400
_SOURCE_FOLDER = re.compile(r"^\S*/(?=[\w.-]+:\d+: )")
"""The folder the engine was built in, before `file:line: GGML_ASSERT(…)`."""


class SimulatorPool:
    """Simulations by the llama.cpp whose libraries are in `lib_dir`; answers call it `llama.cpp VERSION`
    (by default the commit that the libraries state). Close it to end its workers."""

    def __init__(
        self,
        lib_dir: Path,
        *,
        version: str | None = None,
        memory_limit_bytes: int = _MEMORY_LIMIT_BYTES,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._lib_dir = lib_dir.absolute()  # a worker's current folder is another one
        self._version = version
        self._memory_limit_bytes = memory_limit_bytes
        self._timeout_s = timeout_s
        self._workers: dict[tuple[Device, ...], _Worker] = {}

    def simulate(self, question: Question) -> Answer | Refusal:
        """What llama-server would allocate for this question, or one sentence on why nobody knows."""
        reply = self._ask(question.devices, {"question": to_json(question), "like_fit": False})
        return reply if isinstance(reply, Refusal) else answer_from(reply)

    def simulate_like_fit(self, question: Question) -> Answer | Refusal:
        """llama-fit-params' figures: the same simulation with the surplus of its no_alloc pass."""
        reply = self._ask(question.devices, {"question": to_json(question), "like_fit": True})
        return reply if isinstance(reply, Refusal) else answer_from(reply)

    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        """What llama-server would allocate for a multimodal projector as it starts."""
        reply = self._ask(question.devices, {"projector": to_json(question)})
        return reply if isinstance(reply, Refusal) else projector_answer_from(reply)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, devices: tuple[Device, ...], request: Json) -> Json | Refusal:
        worker = self._worker(devices)
        if isinstance(worker, Refusal):
            return worker
        try:
            reply = worker.ask(request, self._timeout_s)
        except _WorkerLost as lost:
            del self._workers[devices]
            reason = f"{worker.engine}: {lost}"
            return Refusal(reason=reason, model_refused=lost.model_refused, crashed=True)
        if "answer" in reply:
            answer: Json = reply["answer"]
            return answer
        if "refusal" in reply:
            return Refusal(**reply["refusal"])
        return Refusal(reason=f"the simulator failed: {reply['fault']}", model_refused=False)

    def _worker(self, devices: tuple[Device, ...]) -> _Worker | Refusal:
        """The worker of this machine shape, most recently used last."""
        worker = self._workers.pop(devices, None)
        if worker is not None and not worker.is_alive:  # ended from outside while it was idle
            worker.end()
            worker = None
        if worker is None:
            if len(self._workers) >= _MAX_WORKERS:
                self._workers.pop(next(iter(self._workers))).end()
            worker = _Worker()
            setup = {
                "lib_dir": str(self._lib_dir),
                "version": self._version,
                "devices": [to_json(device) for device in devices],
                "memory_limit_bytes": self._memory_limit_bytes,
            }
            try:
                reply = worker.ask(setup, self._timeout_s)
            except _WorkerLost as lost:
                return Refusal(reason=f"the simulator did not start: {lost}", model_refused=False)
            if "ready" not in reply:
                worker.end()
                return Refusal(reason=reply["unavailable"], model_refused=False)
            worker.engine = reply["ready"]
        self._workers[devices] = worker
        return worker


class _WorkerLost(Exception):
    """The worker died or fell silent; the message says how. `model_refused` where llama.cpp itself gave up: what was
    ended from outside, or took too long, says nothing about the model."""

    def __init__(self, how: str, *, model_refused: bool = False) -> None:
        super().__init__(how)
        self.model_refused = model_refused


class _Worker:
    """A process that answers one line with one line. `engine` is the llama.cpp it runs.

    It starts in / and without the current folder among its modules' (`-P`, Python 3.11): files that lie in the user's
    folder are never code. Paths in questions are absolute.
    """

    def __init__(self) -> None:
        self.engine = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "launcher.simulate.worker"],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(os.environ),
        )
        self._unread = b""

    def ask(self, message: Json, timeout_s: float) -> Json:
        """Raises _WorkerLost; the worker is then gone."""
        stdin = self._process.stdin
        if stdin is None:
            raise _WorkerLost("it has no input")
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._lost() from None
        reply: Json = json.loads(self._read_line(timeout_s))
        return reply

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # a question that was never read
                if stream is not None:
                    stream.close()

    def _read_line(self, timeout_s: float) -> bytes:
        stdout = self._process.stdout
        if stdout is None:
            raise _WorkerLost("it has no output")
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.end()
                raise _WorkerLost(f"no answer within {timeout_s:g} s")
            data = os.read(stdout.fileno(), 1 << 16)
            if not data:
                raise self._lost()
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _lost(self) -> _WorkerLost:
        """How the process ended, from its status and what it wrote to stderr."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        self.end()
        return _WorkerLost(describe_death(status, lines), model_refused=is_refusal(status, lines))


def is_refusal(status: int, stderr: list[str]) -> bool:
    """Whether llama.cpp ended the worker: it aborted, said so, or ran into memory that is not there. SIGKILL is the
    kernel's out-of-memory killer or somebody else."""
    return -status in {signal.SIGABRT, signal.SIGSEGV} or bool(_aborts(stderr))


def describe_death(status: int, stderr: list[str]) -> str:
    """One sentence on how a worker ended: ggml's own abort text where there is one."""
    said = [line.strip() for line in stderr if line.strip()]
    aborts = _aborts(said)
    if status < 0:
        name = signal.Signals(-status).name
        how = f"it was ended by {name}"
    else:
        how = f"it exited with status {status}"
    words = _SOURCE_FOLDER.sub("", aborts[0]) if aborts else said[-1] if said else ""
    return f"{how}: {words[:_ABORT_TEXT]}" if words else how


def _aborts(lines: list[str]) -> list[str]:
    return [line for line in lines if "GGML_ASSERT" in line or "GGML_ABORT" in line or "what():" in line]


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if not name.startswith(_DROPPED_PREFIXES)}
    if (
        "PYTHONPATH" in kept
    ):  # it means this process's folder, not the worker's; an empty entry is the current one
        folders = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders if folder)
    return {**kept, **_HIDDEN}
