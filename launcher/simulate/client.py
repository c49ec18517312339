"""Simulations in worker processes: `SimulatorPool(lib_dir)` implements `plan.oracle.Oracle`.

The pool keeps one worker per machine shape (the devices of a question) and replaces a worker that has died.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from launcher.machine.machine import Device
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
from launcher.simulate.deaths import describe_death, is_out_of_memory, is_refusal
from launcher.simulate.limits import MOST_BYTES, MOST_TRIALS, WATCH_S, Limits
from launcher.simulate.wire import (
    Json,
    answer_from,
    draft_answer_from,
    fitted_from,
    projector_answer_from,
    to_json,
)
from launcher.units import GIB, MIB, one_line

# Private memory of one worker, touched or not: llama.cpp reserves much more than it uses. Measured, for
# Qwen3.6 35B-A3B: 4 GiB with 4096 tokens a batch, 8 with a draft context beside it. What is used is bounded
# by `limits.py`; this stops a claim of all there is.
_MEMORY_LIMIT_BYTES = 32 * GIB
_TIMEOUT_S = 60.0  # for a worker that only waits; one that computes is ended sooner (limits.py)
_FIT_PATIENCE = 5  # times that for `--fit`, which simulates many times
_MOST_REPLY_BYTES = 32 * MIB  # 65,536 tensors that went to the host take 10
_MAX_WORKERS = 4  # machine shapes kept warm; beyond them the least recently used worker ends

# for a worker: real devices of this machine must not mix in
_WORKER_VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "-1",
    "GGML_VK_VISIBLE_DEVICES": "",
    "ONEAPI_DEVICE_SELECTOR": "opencl:cpu",
    "GGML_NO_BACKTRACE": "1",  # an abort must not start a debugger
}
_DROPPED_PREFIXES = ("GGML_", "LLAMA_", "CUDA_", "HIP_", "ROCR_")
_MOST_STDERR_BYTES = MIB  # the worker cannot write more (worker.py, RLIMIT_FSIZE)


class SimulatorPool:
    """Worker processes that simulate with the llama.cpp libraries in `lib_dir`.

    `version` names it in answers; by default the commit that the libraries state. `close` ends the workers.
    """

    def __init__(
        self,
        lib_dir: Path,
        *,
        version: str | None = None,
        memory_limit_bytes: int = _MEMORY_LIMIT_BYTES,
        most_bytes: int = MOST_BYTES,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._lib_dir = lib_dir.absolute()  # a worker runs in another folder
        self._version = version
        self._memory_limit_bytes = memory_limit_bytes
        self._most_bytes = most_bytes
        self._timeout_s = timeout_s
        self._workers: dict[tuple[Device, ...], _Worker] = {}

    def simulate(self, question: Question) -> Answer | Refusal:
        """Return what llama-server would allocate, or the reason why that is not known."""
        request = {"question": to_json(question), "like_fit": False}
        reply = self._ask(question.devices, request, ubatch_size=question.ubatch_size)
        return reply if isinstance(reply, Refusal) else answer_from(reply)

    def simulate_like_fit(self, question: Question) -> Answer | Refusal:
        """Return llama-fit-params' figures: the same simulation with the surplus of its no_alloc pass."""
        reply = self._ask(question.devices, {"question": to_json(question), "like_fit": True})
        return reply if isinstance(reply, Refusal) else answer_from(reply)

    def simulate_draft(
        self,
        question: DraftQuestion,
        draft: Oracle | None = None,  # noqa: ARG002 - its file is here
    ) -> DraftAnswer | Refusal:
        """Return what a draft context takes beside its main one; both models are files that are here."""
        request, ubatch_size = {"draft": to_json(question)}, question.main.ubatch_size
        reply = self._ask(question.devices, request, n_simulations=2, ubatch_size=ubatch_size)
        return reply if isinstance(reply, Refusal) else draft_answer_from(reply)

    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        """Return what llama-server would allocate for a multimodal projector at startup."""
        reply = self._ask(question.devices, {"projector": to_json(question)})
        return reply if isinstance(reply, Refusal) else projector_answer_from(reply)

    def fit(self, question: FitQuestion) -> Fitted | Refusal:
        """Return what llama-server's `--fit` would make of a line."""
        request, ubatch_size = {"fit": to_json(question)}, question.question.ubatch_size
        reply = self._ask(question.devices, request, n_simulations=MOST_TRIALS, ubatch_size=ubatch_size)
        return reply if isinstance(reply, Refusal) else fitted_from(reply)

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

    def _ask(
        self,
        devices: tuple[Device, ...],
        request: Json,
        *,
        n_simulations: int = 1,
        ubatch_size: int = 0,
    ) -> Json | Refusal:
        worker = self._worker_for(devices)
        if isinstance(worker, Refusal):
            return worker
        try:
            timeout_s = self._timeout_s * min(n_simulations, _FIT_PATIENCE)
            worker.limits.begin(n_simulations, ubatch_size)
            reply = worker.ask(request, timeout_s)
        except _WorkerLost as lost:
            del self._workers[devices]
            reason = f"{worker.engine}: {lost}"
            return Refusal(reason=reason, model_refused=lost.model_refused, crashed=True)
        if "answer" in reply:
            answer: Json = reply["answer"]
            return answer
        if "refusal" in reply:
            refusal = Refusal(**reply["refusal"])
            if refusal.model_refused and is_out_of_memory(refusal.reason):
                return replace(refusal, model_refused=False)
            return refusal
        return Refusal(reason=f"the simulator failed: {one_line(reply['fault'])}", model_refused=False)

    def _worker_for(self, devices: tuple[Device, ...]) -> _Worker | Refusal:
        """Return the worker of this machine shape, started if need be."""
        worker = self._workers.pop(devices, None)  # put back below: the dict is in order of use
        # ended from outside while it was idle, or full of what earlier questions left behind
        if worker is not None and (not worker.is_alive or worker.limits.is_spent):
            worker.end()
            worker = None
        if worker is None:
            if len(self._workers) >= _MAX_WORKERS:
                self._workers.pop(next(iter(self._workers))).end()
            worker = _Worker(self._most_bytes)
            setup = {
                "lib_dir": str(self._lib_dir),
                "version": self._version,
                "devices": [to_json(device) for device in devices],
                "memory_limit_bytes": self._memory_limit_bytes,
            }
            try:
                worker.limits.begin()
                reply = worker.ask(setup, self._timeout_s)
            except _WorkerLost as lost:
                return Refusal(reason=f"the simulator did not start: {lost}", model_refused=False)
            if "ready" not in reply:
                worker.end()
                return Refusal(reason=reply["unavailable"], model_refused=False, unavailable=True)
            worker.engine = reply["ready"]
            worker.limits.started()
        self._workers[devices] = worker
        return worker


class _WorkerLost(Exception):
    """A worker died or fell silent; the message says how."""

    def __init__(self, how: str, *, model_refused: bool = False) -> None:
        super().__init__(how)
        # true if llama.cpp itself gave up: an end from outside or a timeout says nothing about the model
        self.model_refused = model_refused


class _Worker:
    """A process that answers each line with one line. `engine` names the llama.cpp it runs."""

    def __init__(self, most_bytes: int) -> None:
        self.engine = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            # -P and cwd: files in the user's folder are never code, so paths in questions are absolute
            [sys.executable, "-P", "-m", "launcher.simulate.worker"],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(os.environ),
        )
        self._unread = b""
        self.limits = Limits(self._process.pid, most_bytes=most_bytes)

    def ask(self, message: Json, timeout_s: float) -> Json:
        """Send `message` and return the reply. Raises _WorkerLost, after which the worker is gone."""
        stdin = self._process.stdin
        if stdin is None:
            raise _WorkerLost("it has no input")
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._lost() from None
        try:
            reply: Json = json.loads(self._read_line(timeout_s))
        except ValueError:  # nothing of ours: llama.cpp has overwritten what is not its own
            raise self._end_because("its answer cannot be read") from None
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
            ready, _, _ = select.select([stdout], [], [], WATCH_S)
            if ready:
                data = os.read(stdout.fileno(), 1 << 16)
                if not data:
                    raise self._lost()
                self._unread += data
            if len(self._unread) > _MOST_REPLY_BYTES:
                raise self._end_because(f"its answer has more than {_MOST_REPLY_BYTES} bytes")
            if overrun := self.limits.overrun():
                raise self._end_because(overrun)
            if time.monotonic() > deadline:
                raise self._end_because(f"no answer within {timeout_s:g} s")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _end_because(self, why: str) -> _WorkerLost:
        self.end()
        return _WorkerLost(why)

    def _lost(self) -> _WorkerLost:
        """Reap the process and describe its end by its status and stderr."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read(_MOST_STDERR_BYTES).decode(errors="replace").splitlines()
        self.end()
        return _WorkerLost(describe_death(status, lines), model_refused=is_refusal(status, lines))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in environment.items() if not name.startswith(_DROPPED_PREFIXES)}
    if "PYTHONPATH" in inherited:
        # relative entries mean this process's folder, not the worker's; an empty entry is the current folder
        folders = inherited["PYTHONPATH"].split(os.pathsep)
        inherited["PYTHONPATH"] = os.pathsep.join(
            str(Path(folder).absolute()) for folder in folders if folder
        )
    return {**inherited, **_WORKER_VARIABLES}
