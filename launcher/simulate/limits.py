"""Bound what a simulation may cost: a hostile header can make llama.cpp compute without end."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from launcher.units import MIB, format_bytes

# Of its own memory, beyond what it had when it was ready. Measured: 94 MiB at most, for gemma 3's 262,144
# tokens; Kimi K2.5 on eight devices 28 MiB.
MOST_BYTES = 160 * MIB
# Until then: no header has been read. The libraries of a CPU engine take 11 MiB, of Vulkan 24, and of CUDA
# 103 (cuBLAS is relocated), besides what they share with their files.
_MOST_AT_START = 1024 * MIB
# Models with a recurrence have 40 nodes a token in their graph (llama_context::graph_max_nodes). Measured,
# Qwen3.6 35B-A3B: 112 MiB for 2048 tokens a batch, 148 for 4096, 219 for 8192, 361 for 16384.
_USUAL_UBATCH, _LARGEST_UBATCH = 2048, 16384
_BYTES_A_TOKEN = 24 * MIB // 1024
# Measured: 0.7 s at most, for Kimi K2.5 on eight devices, where a worker takes 0.2 s to start.
_MOST_COMPUTING_S = 3.0
_MOST_STARTS = 15.0  # on a slow machine: so many times what this worker took to start
# `--fit` simulates once for each placement that it tries: so many times the computing, and twice the memory,
# because what one load leaves behind is in the way of the next. A draft context is simulated with its main
# one: two simulations.
MOST_TRIALS = 40
WATCH_S = 0.02  # between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process has taken so far."""

    computing_s: float
    own_bytes: int  # resident, and of no file


class Limits:
    """The limits of one worker; `start` is what it had computed when it was ready."""

    def __init__(self, pid: int, *, most_bytes: int) -> None:
        self._process = psutil.Process(pid)
        self._most_bytes = most_bytes
        self._at_start = _MOST_AT_START
        self._most_computing_s = _MOST_COMPUTING_S
        self._begun = 0.0
        self._n_simulations = 1
        self._graph_bytes = 0

    def begin(self, n_simulations: int = 1, ubatch_size: int = 0) -> None:
        """Count from now on: another question is asked, which takes so many simulations."""
        self._begun, self._n_simulations = self._cost().computing_s, n_simulations
        more = min(ubatch_size, _LARGEST_UBATCH) - _USUAL_UBATCH
        self._graph_bytes = max(more, 0) * _BYTES_A_TOKEN

    def started(self) -> None:
        """Take what the worker has computed and holds so far as the measure of this machine and engine."""
        cost = self._cost()
        self._most_computing_s = max(_MOST_COMPUTING_S, _MOST_STARTS * cost.computing_s)
        self._at_start = cost.own_bytes

    @property
    def is_spent(self) -> bool:
        """Whether so little memory is left that the next question should have another worker."""
        return self._cost().own_bytes > self._at_start + self._most_bytes * 3 // 4

    def overrun(self) -> str | None:
        """Say which limit is exceeded; None if none is."""
        cost = self._cost()
        most_bytes = (self._most_bytes + self._graph_bytes) * min(self._n_simulations, 2)
        if cost.own_bytes > self._at_start + most_bytes:
            return f"it needs more than {format_bytes(most_bytes)} of memory"
        most_computing_s = self._most_computing_s * self._n_simulations
        if cost.computing_s - self._begun > most_computing_s:
            return f"it needs more than {most_computing_s:.0f} s of computing"
        return None

    def _cost(self) -> Cost:
        try:
            times, memory = self._process.cpu_times(), self._process.memory_info()
        except psutil.Error:  # it has ended: its pipe says so
            return Cost(computing_s=0.0, own_bytes=0)
        return Cost(computing_s=times.user + times.system, own_bytes=memory.rss - memory.shared)
