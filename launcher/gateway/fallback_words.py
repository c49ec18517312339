"""Put a request into the words of an API elsewhere, and its answer into llama-server's. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from launcher.gateway.fallback_config import Style

DEFAULT_TOKENS = 32_768  # of an answer, where the client sets no limit

_MOST_TOKENS = 1 << 24  # more than any context
_PICTURE_TOKENS = 16_384  # Qwen2-VL's and Kimi's largest pictures; a clip may have more

# OpenAI's own; llama-server's others mean nothing elsewhere, and some APIs refuse them
_PASSED_ON = frozenset({
    "messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "temperature", "top_p",
    "stop", "stream", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs",
    "logit_bias", "reasoning_effort",
})  # fmt: skip
# Moonshot sets them by the mode: 1.0 with thinking, 0.6 without (MoonshotAI/Kimi-K2.5, README)
_MOONSHOT_SETS = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "reasoning_effort"}
)


def asked_tokens(body: Mapping[str, Any]) -> int:
    """Return how long the answer may be, as the client says."""
    for name in ("max_completion_tokens", "max_tokens", "n_predict"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return min(value, _MOST_TOKENS)
    return DEFAULT_TOKENS


def most_prompt_tokens(body: Mapping[str, Any], n_bytes: int) -> int:
    """Return how many tokens a request of so many bytes may have at most."""
    # text has no more tokens than bytes; an address of a few bytes may be a picture of thousands of tokens
    messages = body.get("messages")
    contents = (
        [each.get("content") for each in messages if isinstance(each, dict)]
        if isinstance(messages, list)
        else []
    )
    parts = [part for content in contents if isinstance(content, list) for part in content]
    pictures = sum(not (isinstance(part, dict) and part.get("type") == "text") for part in parts)
    return n_bytes + pictures * _PICTURE_TOKENS


def translated(body: Mapping[str, Any], *, model: str, style: Style, answer_tokens: int) -> dict[str, Any]:
    sent = {name: value for name, value in body.items() if name in _PASSED_ON}
    sent |= {"model": model, "max_tokens": answer_tokens}
    if sent.get("stream") is True:
        sent["stream_options"] = {"include_usage": True}  # the budget counts by it
    else:
        sent.pop("stream", None)
    thinks = _thinks(body)
    match style:
        case Style.MOONSHOT:
            sent = {name: value for name, value in sent.items() if name not in _MOONSHOT_SETS}
            if thinks is not None:
                sent["thinking"] = {"type": "enabled" if thinks else "disabled"}
        case Style.OPENAI:
            if thinks is False:
                sent["reasoning_effort"] = "none"
    return sent


def _thinks(body: Mapping[str, Any]) -> bool | None:
    """Return what the request says of thinking, in any of the ways that clients of llama-server have."""
    arguments = body.get("chat_template_kwargs")
    if isinstance(arguments, Mapping):
        for name in ("enable_thinking", "thinking"):
            if isinstance(arguments.get(name), bool):
                return bool(arguments[name])
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") in {"enabled", "disabled"}:
        return bool(thinking["type"] == "enabled")
    if body.get("reasoning_budget") == 0 or body.get("reasoning_effort") == "none":
        return False
    return None


def answer_in_our_words(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an answer, or a piece of one, as llama-server would have said it."""
    document["model"] = name
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        for part in ("delta", "message"):
            said = choice.get(part) if isinstance(choice, dict) else None
            if isinstance(said, dict) and "reasoning" in said and "reasoning_content" not in said:
                said["reasoning_content"] = said.pop("reasoning")
    return document


def usage_of(document: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the tokens of prompt and answer, and how many of the prompt were cached."""
    usage = document.get("usage")
    if usage is None and isinstance(choices := document.get("choices"), list) and choices:
        usage = choices[0].get("usage") if isinstance(choices[0], dict) else None  # Moonshot's streams
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details")
    cached = usage.get("cached_tokens", details.get("cached_tokens") if isinstance(details, Mapping) else 0)
    figures = (usage.get("prompt_tokens"), usage.get("completion_tokens"), cached or 0)
    if all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 1 << 40 for each in figures):
        return figures  # type: ignore[return-value]
    return None


def event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"
