"""Compare a measurement with the last one of the same line and tests, and keep it."""

from __future__ import annotations

from itertools import count

from launcher.commands.bench.compare import Gate, against_baseline
from launcher.commands.bench.llama_bench import Tests
from launcher.commands.bench.rounds import Line, Loaded
from launcher.commands.here import Here
from launcher.commands.measurements import keep_measurement, last_measured
from launcher.errors import NotFound
from launcher.plan.forecast.benched import Benched, Speed
from launcher.plan.forecast.noise import can_differ


def find_baseline(here: Here, loaded: Loaded, line: Line, tests: Tests, word: str) -> Benched:
    """Return the latest measurement of this line with one of these tests. Raises NotFound."""

    def has_test(benched: Benched) -> bool:
        same = (benched.prompt_tokens, benched.reply_tokens) == (tests.prompt, tests.reply)
        return same and any(_is_comparable(speed, tests) for speed in benched.speeds)

    found = last_measured(here.settings, loaded.machine, loaded.model, line.words, tests=has_test)
    if found is None:
        raise NotFound(
            f"no measurement of {loaded.model.model_id} as it is planned now, with one of these depths, this "
            f"prompt and reply, and enough repetitions beside {tests.repetitions}, is kept to compare with",
            hint=f"launcher bench {word} {_words(tests)}",
        )
    return found


def _words(tests: Tests) -> str:
    """Return the options of a measurement that these tests can be compared with."""
    times = next(number for number in count(1) if can_differ(tests.repetitions, number))
    depths = " ".join(f"--depth {depth}" for depth in tests.depths)
    return f"{depths} --prompt {tests.prompt} --reply {tests.reply} -r {times}"


def _is_comparable(speed: Speed, tests: Tests) -> bool:
    samples = (speed.prompt, speed.reply, speed.api_prompt, speed.api_reply)
    times = max((len(each.rates) for each in samples if each is not None), default=0)
    return speed.depth in tests.depths and can_differ(tests.repetitions, times)


def keep_by(here: Here, benched: Benched, before: Benched | None) -> Gate | None:
    """Keep a measurement, unless it is slower than the one before; return how they compare."""
    gate = None if before is None else against_baseline(benched, before)
    if gate is None or not gate.is_slower:  # the next one is measured by what was not slower
        keep_measurement(here, benched)
    return gate
