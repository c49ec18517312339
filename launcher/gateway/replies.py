"""Write answers of the gateway's own, and errors as the client's API writes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from launcher.gateway.admission.events import Refusal

Pairs = tuple[tuple[bytes, bytes], ...]


class Dialect(StrEnum):
    """Whose API a request speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request is not answered."""

    status: int
    code: str  # what programs match on
    sentence: str
    retry_after_s: float | None = None
    should_retry: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: Pairs = ()


_OF_REFUSAL = {
    Refusal.UNKNOWN_MODEL: (404, "model_not_found", False),
    Refusal.DOES_NOT_FIT: (400, "does_not_fit", False),
    Refusal.SHORT_OF_MEMORY: (503, "short_of_memory", True),
    Refusal.QUEUE_FULL: (503, "queue_full", True),
    Refusal.WAITED_TOO_LONG: (503, "waited_too_long", True),
    # clients would ask again at once, and hide the diagnosis behind their own words
    Refusal.LOAD_FAILED: (503, "load_failed", False),
}

_OPENAI_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def problem_of(why: Refusal, sentence: str, retry_after_s: float | None) -> Problem:
    status, code, again = _OF_REFUSAL[why]
    return Problem(
        status=status, code=code, sentence=sentence, retry_after_s=retry_after_s, should_retry=again
    )


def problem_json(problem: Problem, dialect: Dialect) -> dict[str, object]:
    """Return the error as the API's clients expect it."""
    match dialect:
        case Dialect.OLLAMA:
            return {"error": problem.sentence}
        case Dialect.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(problem.status, "api_error")
            return {"type": "error", "error": {"type": kind, "message": problem.sentence}}
        case Dialect.OPENAI:
            usual = "invalid_request_error" if problem.status < 500 else "server_error"
            return {
                "error": {
                    "message": problem.sentence,
                    "type": _OPENAI_TYPES.get(problem.status, usual),
                    "param": None,
                    "code": problem.code,
                }
            }


FOR_SOME_ONLY = Problem(
    status=403, code="not_allowed", sentence="this key is for some models only", should_retry=False
)


def not_for(model: str) -> Problem:
    """Return why a key gets no answer of a model that it is not for."""
    sentence = f"this key is not for {model}"
    return Problem(status=403, code="not_allowed", sentence=sentence, should_retry=False)


def problem_reply(problem: Problem, dialect: Dialect) -> Reply:
    headers: list[tuple[bytes, bytes]] = []
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(problem.retry_after_s))))
    if not problem.should_retry:
        headers.append((b"x-should-retry", b"false"))  # OpenAI's and Anthropic's clients heed it
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return json_reply(problem_json(problem, dialect), status=problem.status, headers=tuple(headers))


def problem_event(problem: Problem, dialect: Dialect) -> bytes:
    """Return the error as the last event of a stream that has begun."""
    text = json.dumps(problem_json(problem, dialect)).encode()
    if dialect is Dialect.OLLAMA:
        return text + b"\n"
    event = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return event + b"data: " + text + b"\n\n"


def json_reply(value: Mapping[str, object], *, status: int = 200, headers: Pairs = ()) -> Reply:
    return Reply(status=status, body=json.dumps(value).encode(), headers=headers)
