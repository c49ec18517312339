"""Stream one answer: print it, measure it, and stop one that repeats itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.cli.chat.loops import is_looping
from launcher.cli.chat.requests import Asked
from launcher.cli.show.output import Output
from launcher.deployment.record import Deployment
from launcher.engine.chat import Delta, Message, stream_chat
from launcher.engine.key_file import read_api_key

LOOP = "loop"
"""The reason why an answer ended that went on with the same words."""

_LOOK_EVERY = 64  # letters


@dataclass(slots=True)
class Answer:
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    tokens_per_s: float | None = None
    context_tokens: int | None = None
    first_s: float | None = None  # until the first token

    def add(self, delta: Delta, after_s: float) -> None:
        if self.first_s is None and (delta.text or delta.reasoning):
            self.first_s = after_s
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.tokens_per_s = delta.tokens_per_s or self.tokens_per_s
        self.context_tokens = delta.context_tokens or self.context_tokens


def stream_answer(
    deployment: Deployment, messages: Sequence[Message], asked: Asked, answer: Answer
) -> Iterator[Delta]:
    """Yield the pieces of an answer, and add them up in `answer`; stop where it only repeats itself."""
    began = time.monotonic()
    looked_at = 0
    pieces = stream_chat(
        deployment.url,
        asked.messages(messages),
        model=deployment.model_id,
        api_key=read_api_key(deployment.api_key_file),
        options=_options(deployment, asked),
    )
    for delta in pieces:
        answer.add(delta, time.monotonic() - began)
        yield delta
        n_letters = len(answer.text) + len(answer.reasoning)
        if n_letters - looked_at >= _LOOK_EVERY:
            looked_at = n_letters
            if is_looping(answer.text or answer.reasoning):
                answer.finish_reason = LOOP
                return  # closes the connection, and llama-server stops


def print_answer(
    deployment: Deployment, messages: Sequence[Message], asked: Asked, out: Output, *, thinking: bool = False
) -> Answer:
    """Print an answer as it comes: as Markdown on a terminal, and what is piped on as it is."""
    answer = Answer()
    pieces = stream_answer(deployment, messages, asked, answer)
    if not sys.stdout.isatty():
        for delta in pieces:
            _write(delta, answer, out)
        out.write("\n")
    else:
        from rich.console import Console

        from launcher.cli.chat.markdown import MarkdownStream

        with MarkdownStream(Console(highlight=False), show_thinking=thinking) as shown:
            for delta in pieces:
                if delta.reasoning:
                    shown.think(delta.reasoning)
                if delta.text:
                    shown.add(delta.text)
    if sys.stderr.isatty():
        out.say(stats_line(answer, context_of(deployment)), style="dim")
    if note := why_it_ended(answer):
        out.say(f"note: {note}")
    return answer


def stats_line(answer: Answer, n_ctx: int | None) -> str:
    """Say how fast an answer came, and how full the context is."""
    parts = [] if answer.tokens_per_s is None else [f"{answer.tokens_per_s:.1f} tokens/s"]
    parts += [] if answer.first_s is None else [f"the first after {answer.first_s:.1f} s"]
    if answer.context_tokens is not None:
        of = f" of {n_ctx}" if n_ctx else ""
        parts.append(f"{answer.context_tokens}{of} tokens of context")
    return ", ".join(parts)


def why_it_ended(answer: Answer) -> str | None:
    """Say why an answer is not whole; None for one that is."""
    if answer.finish_reason == LOOP:
        return "stopped: it went on repeating itself"
    if answer.finish_reason == "length":
        return "cut off: it is as long as it may be (--max-tokens, or the context: -c)"
    return None


def context_of(deployment: Deployment) -> int | None:
    return None if deployment.plan is None else deployment.plan.ctx_size


def _options(deployment: Deployment, asked: Asked) -> dict[str, object]:
    """Return the request's fields; an answer may take half of the context where nothing else is asked."""
    fields = dict(asked.fields or {})
    n_ctx = context_of(deployment)
    if n_ctx is not None:
        fields.setdefault("max_tokens", max(n_ctx // 2, 1))
    return fields


def _write(delta: Delta, answer: Answer, out: Output) -> None:
    if delta.reasoning:
        out.show_reasoning(delta.reasoning)  # to stderr: stdout holds the answer alone
    if delta.text:
        if answer.text == delta.text:
            out.end_reasoning()
        out.write_untrusted(delta.text)
