"""Ask one question the way a program would, and show that an answer comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from launcher.errors import EngineFailed, TryAgain
from launcher.gateway.connect.clients import Api, Client, Endpoint
from launcher.system.json_object import Malformed, parse_json

_QUESTION = "Say hello in one word."
_MOST_TOKENS = 64
_SILENCE_S = 900.0  # the first answer waits for a load
_MOST_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    path: str
    answer: str
    first_s: float  # until the first piece of it
    seconds: float


def ask(client: Client, at: Endpoint) -> Asked:
    """Return what was answered. Raises EngineFailed if an error is the answer, TryAgain if there is none."""
    path, headers, body = _request(client.api, at)
    began, first, pieces = time.monotonic(), None, []
    try:
        timeout = httpx2.Timeout(10.0, read=_SILENCE_S)
        with httpx2.stream("POST", f"{at.url}{path}", headers=headers, json=body, timeout=timeout) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise EngineFailed(_message(answer.read()), hint=f"launcher connect {client.name}")
            for event in _events(answer):
                piece = _text(client.api, event)
                if piece:
                    first = time.monotonic() - began if first is None else first
                    pieces.append(piece)
    except httpx2.HTTPError as error:
        raise TryAgain(f"no answer from {at.url}{path}: {error}", hint="launcher serve") from error
    if first is None:
        raise EngineFailed(f"the answer of {at.first} has no text", hint="launcher logs")
    answer_text = "".join(pieces).strip()
    return Asked(path=path, answer=answer_text, first_s=first, seconds=time.monotonic() - began)


def _request(api: Api, at: Endpoint) -> tuple[str, dict[str, str], dict[str, object]]:
    question = [{"role": "user", "content": _QUESTION}]
    bearer = {"Authorization": f"Bearer {at.any_key}"}
    match api:
        case Api.MESSAGES:
            headers = {**bearer, "anthropic-version": "2023-06-01"}
            body: dict[str, object] = {"model": at.first, "max_tokens": _MOST_TOKENS, "messages": question}
            return "/v1/messages", headers, {**body, "stream": True}
        case Api.RESPONSES:
            body = {"model": at.first, "input": question, "max_output_tokens": _MOST_TOKENS, "stream": True}
            return "/v1/responses", bearer, body
        case Api.CHAT:
            body = {"model": at.first, "messages": question, "max_tokens": _MOST_TOKENS, "stream": True}
            return "/v1/chat/completions", bearer, body


def _text(api: Api, event: dict[str, Any]) -> str:
    """Return the event's piece of the answer, thoughts included."""
    match api:
        case Api.MESSAGES:
            delta = event.get("delta") or {}
            return str(delta.get("text") or delta.get("thinking") or "")
        case Api.RESPONSES:
            return str(event.get("delta") or "") if str(event.get("type", "")).endswith("text.delta") else ""
        case Api.CHAT:
            choice = (event.get("choices") or [{}])[0]
            delta = choice.get("delta") or {}
            return str(delta.get("content") or delta.get("reasoning_content") or "")


def _events(answer: httpx2.Response) -> Iterator[dict[str, Any]]:
    for line in _lines(answer):
        text = line.removeprefix(b"data:").strip()
        if text == b"[DONE]" or not line.startswith(b"data:"):
            continue
        try:
            event = parse_json(text)
        except Malformed as error:
            raise EngineFailed(f"{text[:200]!r} is no event of a stream", hint="launcher logs") from error
        if isinstance(event, dict):
            if event.get("error"):
                raise EngineFailed(_message(text), hint="launcher logs")
            yield event


def _lines(answer: httpx2.Response) -> Iterator[bytes]:
    rest = b""
    for block in answer.iter_bytes():  # not iter_lines: it parts lines at U+2028, too
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _MOST_LINE:
            raise EngineFailed(
                f"a line of the answer is longer than {_MOST_LINE} bytes", hint="launcher logs"
            )
        yield from lines


def _message(body: bytes) -> str:
    try:
        error = parse_json(body)["error"]
        return str(error if isinstance(error, str) else error["message"])[:2000]
    except (ValueError, KeyError, TypeError):
        return f"the answer is {body[:200]!r}"
