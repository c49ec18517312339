"""Questions for simulators: eight large devices, a small question, and models with a damaged header."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.machine.machine import Backend, Device
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import SimulatorPool
from launcher.units import GIB

CARDS = tuple(
    Device(id=f"CUDA{i}", backend=Backend.CUDA, name="A100", total_bytes=80 * GIB, free_bytes=None)
    for i in range(8)
)


def ask(simulators: SimulatorPool, model: Path, **changes: object) -> Answer:
    """Ask about 4096 tokens on the first of `CARDS`, with `changes`; a refusal fails the test."""
    question = Question(**{"model": str(model), "devices": CARDS[:1], "ctx_size": 4096, **changes})
    answer = simulators.simulate(question)
    assert isinstance(answer, Answer), answer
    return answer


def damaged(model: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    """Copy a hollow model with some bytes of its header exchanged for as many others."""
    assert len(old) == len(new)
    header = model.read_bytes()[: 1 << 20]
    assert old in header
    copy = tmp_path / "damaged.gguf"
    copy.write_bytes(header.replace(old, new, 1))
    os.truncate(copy, model.stat().st_size)
    return copy
