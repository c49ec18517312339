"""Run llama-bench, and read what it measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.deployment.supervisor.protect import before_exec
from launcher.engine.ask import run_to_its_end
from launcher.engine.find import Engine
from launcher.errors import EngineFailed, UsageError

_TIMEOUT_S = 3600.0
_MOST_OUTPUT = 4 << 20  # bytes of its JSON: 1.5 kB a test


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """What is measured: a prompt and a reply after each depth, several times."""

    depths: tuple[int, ...] = (0,)
    prompt: int = 512
    reply: int = 64
    repetitions: int = 3

    @property
    def most_tokens(self) -> int:
        return max(self.depths) + self.prompt + self.reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Tokens/s of one repetition at one depth; None where it could not be told."""

    prompt: float | None = None
    reply: float | None = None


def find_llama_bench(engine: Engine) -> Path:
    """Return the llama-bench beside a llama-server. Raises UsageError."""
    program = engine.path.with_name("llama-bench")
    if not os.access(program, os.X_OK):
        raise UsageError(f"{engine.path} has no llama-bench beside it", hint="launcher engine build")
    return program


def test_words(tests: Tests) -> tuple[str, ...]:
    """Return llama-bench's words for one repetition."""
    depths = ",".join(map(str, tests.depths))
    return ("-p", str(tests.prompt), "-n", str(tests.reply), "-d", depths, "-r", "1", "-o", "json")


def run_llama_bench(argv: Sequence[str], env: Mapping[str, str], tests: Tests) -> dict[int, Rates]:
    """Run it once and return the rates by depth. Raises EngineFailed."""
    done = run_to_its_end(argv, env, _TIMEOUT_S, hint="fewer --depth", before_exec=before_exec(None))
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise EngineFailed(f"llama-bench ended with status {done.returncode}: {lines[-1][:300]}")
    try:
        found = json.loads(done.stdout[:_MOST_OUTPUT])
    except (ValueError, RecursionError) as error:
        raise EngineFailed("llama-bench printed no JSON", hint="launcher engine build") from error
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return {depth: _rates([row for row in rows if row.get("n_depth") == depth]) for depth in tests.depths}


def _rates(rows: Sequence[Mapping[str, Any]]) -> Rates:
    return Rates(
        prompt=_rate(next((row for row in rows if row.get("n_prompt")), {})),
        reply=_rate(next((row for row in rows if row.get("n_gen")), {})),
    )


def _rate(row: Mapping[str, Any]) -> float | None:
    rates = row.get("samples_ts")
    first = rates[0] if isinstance(rates, list) and rates else None
    return float(first) if isinstance(first, int | float) and first > 0 else None
