"""Talk to a running deployment: one answer, or a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.cli.show.output import Output
from launcher.deployment.record import Deployment
from launcher.engine.client import Delta, Message, read_api_key, stream_chat


def answer_once(deployment: Deployment, prompt: str, out: Output) -> None:
    """Stream one answer to stdout; under --json print it whole."""
    messages: list[Message] = [{"role": "user", "content": prompt}]
    if not out.as_json:
        _stream(deployment, messages, out)
        return
    text, reasoning, finish, speed = "", "", None, None
    for delta in _deltas(deployment, messages):
        text, reasoning = text + delta.text, reasoning + delta.reasoning
        finish, speed = delta.finish_reason or finish, delta.tokens_per_s or speed
    answer = {"answer": text, "reasoning": reasoning or None, "finish_reason": finish, "tokens_per_s": speed}
    out.show({"name": deployment.name, "url": deployment.url, "model_id": deployment.model_id, **answer})


def converse(deployment: Deployment, out: Output) -> None:
    """Chat until the user ends it. Ctrl-C ends the answer under way; at the prompt, the chat."""
    out.say(f"chatting with {deployment.model_id}; Ctrl-D ends, the server stays up")
    messages: list[Message] = []
    while True:
        try:
            prompt = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            out.say("")
            return
        if not prompt:
            continue
        messages.append({"role": "user", "content": prompt})
        try:
            messages.append({"role": "assistant", "content": _stream(deployment, messages, out)})
        except KeyboardInterrupt:
            messages.pop()  # a question without an answer is no part of the conversation
            out.write("\n")


def _stream(deployment: Deployment, messages: Sequence[Message], out: Output) -> str:
    """Print the answer as it comes, and return it."""
    text = ""
    for delta in _deltas(deployment, messages):
        if delta.reasoning:
            out.show_reasoning(delta.reasoning)  # to stderr: stdout holds the answer alone
        if delta.text and not text:
            out.end_reasoning()
        text += delta.text
        out.write_untrusted(delta.text)
    out.write("\n")
    return text


def _deltas(deployment: Deployment, messages: Sequence[Message]) -> Iterator[Delta]:
    return stream_chat(
        deployment.url,
        messages,
        model=deployment.model_id,
        api_key=read_api_key(deployment.api_key_file),
    )
