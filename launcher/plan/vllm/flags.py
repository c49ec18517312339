"""Read vLLM's own flags: those that a plan is made with, and those that take no memory.

All others are refused: a flag that is passed on uncounted could make a plan that fits one that does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from launcher.errors import UsageError
from launcher.plan.vllm.plan import VllmRequest

_TENSOR = ("-tp", "--tensor-parallel-size")
_PIPELINE = ("-pp", "--pipeline-parallel-size")
_CONTEXT = "--max-model-len"
_SHARE = "--gpu-memory-utilization"
_PLANNED = (*_TENSOR, *_PIPELINE, _CONTEXT, _SHARE)
# Flags that take no memory, by the number of their values (vllm serve --help of 0.32). --revision and
# --load-format are not among them: the files that they load are not those that were counted.
_FREE = {
    "--tool-call-parser": 1,
    "--reasoning-parser": 1,
    "--chat-template": 1,
    "--mm-encoder-tp-mode": 1,  # `data` or not: a vision encoder is counted whole on every rank
    "--seed": 1,
    "--trust-remote-code": 0,
    "--enable-auto-tool-choice": 0,
    "--enforce-eager": 0,  # takes less than is counted: no CUDA graphs
}
_MOST_RANKS = 1024  # more than any machines that are planned for have
_MOST_CTX = 1 << 31


def read_flags(
    flags: Sequence[str], request: VllmRequest, whose: str = "the command line"
) -> tuple[VllmRequest, tuple[str, ...]]:
    """Return the request with what the flags ask for, and the flags to pass on. Raises UsageError."""
    passed: list[str] = []
    for name, value in _split(flags):
        if name in _PLANNED:
            request = _with(request, name, value)
        elif name not in _FREE:
            raise UsageError(
                f"{whose} has {name[:60]}, and what vLLM takes with that flag is not known",
                hint=f"leave it out; flags that can be given: {', '.join(sorted({*_PLANNED, *_FREE}))}",
            )
        elif (value is None) != (_FREE[name] == 0):
            raise UsageError(
                f"{name} takes {'a value' if _FREE[name] else 'no value'}",
                hint=f"{name} VALUE" if _FREE[name] else name,
            )
        else:
            passed += [name] if value is None else [name, value]
    return request, tuple(passed)


def _split(flags: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    words = list(flags)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if equals:
            yield name, value
        elif words and not words[0].startswith("-"):
            yield name, words.pop(0)
        else:
            yield name, None


def _with(request: VllmRequest, name: str, value: str | None) -> VllmRequest:
    if name in _TENSOR:
        return replace(request, tp=_number(name, value, _MOST_RANKS))
    if name in _PIPELINE:
        return replace(request, pp=_number(name, value, _MOST_RANKS))
    if name == _CONTEXT:
        return replace(request, ctx_size=_number(name, value, _MOST_CTX))
    return replace(request, utilisation=_share(value or ""))


def _number(name: str, text: str | None, most: int) -> int:
    if text is None or not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= most):
        raise UsageError(f"{name} {(text or '')[:40]!r} is not a number from 1 to {most}", hint=f"{name} 2")
    return int(text)


def _share(text: str) -> Fraction:
    # two decimals at most: what is printed is what was planned
    whole, _, digits = text.partition(".")
    decimal = whole in {"", "0", "1"} and len(digits) in {1, 2} and digits.isascii() and digits.isdigit()
    if not decimal or not 0 < (share := Fraction(text)) <= 1:
        raise UsageError(
            f"--gpu-memory-utilization {text[:40]!r} is not a share from 0.01 to 1.00",
            hint="--gpu-memory-utilization 0.92",
        )
    return share
