"""Put what was measured round by round beside what was forecast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from launcher.commands.bench.llama_bench import Rates, Tests
from launcher.commands.check import CheckRequest, check_command
from launcher.commands.here import Here
from launcher.commands.measurements import subject_of
from launcher.engine.find import Engine
from launcher.engine.flags.bench_argv import speed_words
from launcher.errors import UsageError
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.check.pace import stages_of_check
from launcher.plan.forecast.benched import Benched, Samples, Speed
from launcher.plan.forecast.measured import base_of, basis_of, processors_of
from launcher.plan.modes import Dialect
from launcher.plan.placement.pace import laws_of
from launcher.plan.plan import Plan

_LEAST_VOCABULARY = 97  # of every model: fill_context's tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What is measured: a plan of a model on a machine."""

    plan: Plan
    model: ModelFile
    machine: Machine

    @property
    def n_vocab(self) -> int:
        return read_architecture(self.model.metadata, self.model.tensors).n_vocab or _LEAST_VOCABULARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A command line of llama-server, and llama-bench's words for the same; none where that is not run."""

    commit: str
    words: tuple[str, ...]
    bench_words: tuple[str, ...] = ()
    engine: Engine | None = None
    dialect: Dialect = Dialect.LLAMA_CPP


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Rates by depth, of one repetition."""

    alone: Mapping[int, Rates] = field(default_factory=dict)  # llama-bench's
    api: Mapping[int, Rates] = field(default_factory=dict)


def check_depths(tests: Tests, ctx_size: int) -> None:
    """Raise UsageError for what is longer than the context."""
    if tests.most_tokens > ctx_size:
        room = max(ctx_size - tests.prompt - tests.reply, 0)
        raise UsageError(
            f"a depth of {max(tests.depths)} tokens, a prompt of {tests.prompt} and a reply of "
            f"{tests.reply} are more than the context of {ctx_size}",
            hint=f"--depth {room}, or a larger -c",
        )


def as_benched(here: Here, loaded: Loaded, line: Line, tests: Tests, rounds: Sequence[Round]) -> Benched:
    """Return the rounds as one measurement, with the forecast of exactly that line."""
    plan, machine = loaded.plan, loaded.machine
    # `check` reads lines as llama.cpp takes them; where weights lie is the same
    path = line.engine.path if line.engine and line.dialect is Dialect.LLAMA_CPP else None
    verdict = check_command(here, CheckRequest(words=line.words, engine=path)).verdict
    stages = stages_of_check(verdict, loaded.model, machine, threads=plan.threads)
    rows = min(plan.ubatch_size, plan.batch_size)
    base = base_of(stages, rows, laws_of(line.dialect)) if stages else None
    speeds = []
    for depth in tests.depths:
        at = base(depth, tests.prompt) if base else None
        alone = [each.alone.get(depth, Rates()) for each in rounds]
        api = [each.api.get(depth, Rates()) for each in rounds]
        speeds.append(
            Speed(
                depth=depth,
                prompt=_samples(rates.prompt for rates in alone),
                reply=_samples(rates.reply for rates in alone),
                api_prompt=_samples(rates.prompt for rates in api),
                api_reply=_samples(rates.reply for rates in api),
                forecast_prompt=at.prefill if at else None,
                forecast_reply=at.decode if at else None,
            )
        )
    return Benched(
        subject=subject_of(plan, loaded.model, machine, line.commit),
        basis=basis_of(machine),
        line=speed_words(line.words[1:]),
        processors=processors_of(stages),
        prompt_tokens=tests.prompt,
        reply_tokens=tests.reply,
        argv=line.bench_words,
        speeds=tuple(speeds),
    )


def _samples(rates: Iterator[float | None]) -> Samples | None:
    found = tuple(rate for rate in rates if rate is not None)
    return Samples(rates=found) if found else None
