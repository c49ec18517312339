"""One request and its answer, as proxy, Ollama's API and status share it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Protocol

from launcher.gateway.catalogue import Wanted
from launcher.gateway.replies import Dialect

_TOKENS = re.compile(rb'"(?:completion_tokens|output_tokens)":\s?(\d{1,12})')
_PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens)":\s?(\d{1,12})')
# where no usage was asked for; prompt_n is without what was cached
_TIMED_TOKENS = re.compile(rb'"predicted_n":\s?(\d{1,12})')
_TIMED_PROMPT = re.compile(rb'"prompt_n":\s?(\d{1,12})')
_TAIL = 4096  # bytes of an answer in which they are looked for


class Translator(Protocol):
    """Turns the engine's answer into that of another API, while it comes."""

    content_type: bytes

    def feed(self, block: bytes) -> bytes: ...

    def end(self) -> bytes: ...

    def fail(self, body: bytes) -> bytes: ...


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request, from its arrival to its end, as the status shows it."""

    dialect: Dialect
    method: str
    target: bytes  # for the engine: path and query
    key_name: str | None = None
    wanted: Wanted | None = None  # known from the path; else the body names it
    allowed: frozenset[str] | None = None  # models that the key is for
    body: bytes | None = None  # in place of the client's
    translator: Translator | None = None
    began: float = field(default_factory=time.monotonic)
    first_byte_s: float | None = None
    waited_s: float = 0.0
    status: int | None = None
    asked: str | None = None  # the deployment that is asked: the model's, or a replica
    answered_by: str | None = None  # the host of an API elsewhere
    has_head: bool = False  # the engine has begun to answer: nothing is asked again
    n_bytes: int = 0
    n_events: int = 0  # of a stream: about as many as tokens
    tail: bytes = b""

    @property
    def model(self) -> str | None:
        return None if self.wanted is None else self.wanted.servable.key

    @property
    def model_header(self) -> tuple[bytes, bytes]:
        return b"x-launcher-model", (self.model or "").encode("ascii", errors="replace")

    def note(self, block: bytes) -> None:
        """Note a piece of the answer that has come."""
        if self.first_byte_s is None:
            self.first_byte_s = time.monotonic() - self.began
        self.n_bytes += len(block)
        self.n_events += block.count(b"\n\n")
        self.tail = (self.tail + block)[-_TAIL:] if len(block) < _TAIL else block[-_TAIL:]

    @property
    def tokens(self) -> tuple[int, int]:
        """Return the tokens of prompt and answer, as the engine's last words say."""
        prompt = _PROMPT.findall(self.tail) or _TIMED_PROMPT.findall(self.tail)
        answer = _TOKENS.findall(self.tail) or _TIMED_TOKENS.findall(self.tail)
        return int(prompt[-1]) if prompt else 0, int(answer[-1]) if answer else 0
