"""Say a llama-server command line to llama-bench. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.engine.flags.user_flags import split_flags

# tools/llama-bench/llama-bench.cpp at 0c1e570: what both programs spell the same, and what llama-bench
# separates in its own way, because its commas separate the values to try.
_SAME = frozenset(
    {"-m", "-ctk", "-ctv", "-b", "-ub", "-t", "-fa", "-ngl", "-sm", "-mg", "-lm", "-lzm", "--numa"}
)
_SEPARATORS = {"-ts": "/", "-dev": "/", "-ot": ";"}
_SWITCHES = {
    "-nkvo": "-nkvo",
    "--no-kv-offload": "-nkvo",
    "-nopo": "-nopo",
    "--no-op-offload": "-nopo",
    "--no-host": "--no-host",
}


# of llama-server's others those that change how fast it answers
_SERVERS_OWN = frozenset({"-np", "-tb", "-md", "-hfd", "--lora", "-ngld", "-devd"})


def speed_words(line: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line that decide its speed, beside the model; in one order."""
    spelled = bench_argv(line, "")[1:]
    pairs = [(name, words[-1]) for name, words in split_flags(spelled) if name != "-m"]
    pairs += [
        (name, " ".join(words[1:]))
        for name, words in split_flags(line)
        if name in _SERVERS_OWN or name.startswith("--spec-")
    ]
    return tuple(word for pair in sorted(set(pairs)) for word in pair)


def bench_argv(line: Sequence[str], program: str) -> tuple[str, ...]:
    """Return llama-bench's words for the same model, placement and batches; `line` is without a program."""
    words = [program]
    for name, given in split_flags(line):
        if name in _SAME:
            words += [name, given[-1]]
        elif name in _SEPARATORS:
            words += [name, given[-1].replace(",", _SEPARATORS[name])]
        elif name in _SWITCHES:
            words += [_SWITCHES[name], "1"]
    return tuple(words)
