"""Ask llama-server to answer a chat, and yield the answer piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.engine.client import stream_events
from launcher.errors import EngineFailed

Message = Mapping[str, Any]  # a chat message in OpenAI's form, `{"role": …, "content": …}`


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of an answer."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None  # in the last piece: "stop", "length"
    tokens_per_s: float | None = None  # in the last piece, if the server says so
    context_tokens: int | None = None  # that question and answer take, in the last piece


def stream_chat(
    url: str,
    messages: Sequence[Message],
    *,
    model: str,
    api_key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Delta]:
    """Yield the answer to `messages`, piece by piece. `options` are further fields of the request.

    Raises UsageError if the server refuses the request, EngineFailed for all else, a lost connection
    included.
    """
    body = {**(options or {}), "model": model, "messages": list(messages), "stream": True}
    finished = False
    for event in stream_events(url, "/v1/chat/completions", body, api_key):
        piece = _delta(event)
        finished = finished or piece.finish_reason is not None
        if piece != Delta():
            yield piece
    if not finished:
        raise EngineFailed("llama-server stopped in the middle of its answer", hint="launcher ps")


def _delta(event: Mapping[str, Any]) -> Delta:
    try:
        choice = (event.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        timings = event.get("timings") or {}
        speed = timings.get("predicted_per_second")
        return Delta(
            text=str(delta.get("content") or ""),
            reasoning=str(delta.get("reasoning_content") or ""),
            finish_reason=choice.get("finish_reason"),
            tokens_per_s=None if speed is None else float(speed),
            context_tokens=_sum(timings.get(name) for name in ("cache_n", "prompt_n", "predicted_n")),
        )
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise EngineFailed(
            "llama-server sent a piece of an answer that is none", hint="launcher logs"
        ) from error


def _sum(numbers: Iterable[object]) -> int | None:
    counts = [number for number in numbers if isinstance(number, int)]
    return sum(counts) or None
