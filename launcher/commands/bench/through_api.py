"""Measure a llama-server as its client sees it: prompts and replies at depths, through the HTTP API."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from launcher.commands.bench.llama_bench import Rates, Tests
from launcher.commands.short_server import short_server
from launcher.engine.timed import Timed, time_completion

_LOAD_S = 1800.0  # a file of 600 GB from a slow disk
_SLACK = 8  # tokens that the server computes again where a cached prompt ends


def measure_through_api(
    argv_for: Callable[[int], Sequence[str]],
    env: Mapping[str, str],
    tests: Tests,
    n_vocab: int,
    seed: int,
) -> dict[int, Rates]:
    """Start the server, measure once at each depth, end it. Raises EngineFailed."""
    with short_server(argv_for, env, _LOAD_S) as url:
        return measure_server(url, tests, n_vocab, seed)


def measure_server(
    url: str, tests: Tests, n_vocab: int, seed: int, *, api_key: str | None = None
) -> dict[int, Rates]:
    """Measure a server that runs once at each depth. Raises EngineFailed."""
    words = random.Random(seed)  # noqa: S311  as llama-bench: tokens at random, so that experts share the work

    def tokens(count: int) -> list[int]:
        return [words.randrange(1, n_vocab) for _ in range(count)]

    def complete(prompt: Sequence[int], reply: int) -> Timed:
        return time_completion(url, prompt, reply, api_key=api_key)

    complete(tokens(32), 4)  # the first request pays for what no other does
    found: dict[int, Rates] = {}
    for depth in sorted(tests.depths):
        cached = tokens(depth)
        if cached:
            complete(cached, 1)
        timed = complete([*cached, *tokens(tests.prompt)], tests.reply)
        # A model that cannot go back to the cached tokens computes them again: no prompt at this depth.
        is_at_depth = timed.prompt_tokens <= tests.prompt + _SLACK
        found[depth] = Rates(prompt=timed.prompt_rate if is_at_depth else None, reply=timed.reply_rate)
    return found
