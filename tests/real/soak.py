"""Mixed requests to three real models in room for two, while engines and the gateway are killed and frozen.

Every answer is looked at, every loss is held against what was killed at that moment, and every half second the
engines' own logs say what they took.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import anthropic
import ollama

from tests.real.gateway_process import PATIENCE_S, Served, allocated_bytes, logs_of_running, running

HI: Any = [{"role": "user", "content": "Hi"}]
N_TOKENS = 2
EMBEDS = "c"  # the model that gives embeddings; the others chat
EMBEDDING_FLAGS = {EMBEDS: ', "--embedding", "--pooling", "mean"'}

FROZEN_S = 90.0  # a minute until it is noticed, and what this machine adds
_LOOK_S = 0.5
_STAYS = 8.0  # requests that a user asks of one model in a row, on average


@dataclass(frozen=True)
class Loss:
    """A request that got an error."""

    kind: str
    model: str
    began: float
    ended: float
    words: str


@dataclass(frozen=True)
class End:
    """What was done to a model's engine, or to the gateway."""

    what: str
    who: str
    at: float

    def explains(self, loss: Loss) -> bool:
        until = self.at + (FROZEN_S if self.what == "freeze" else 0.0)
        return self.who in {loss.model, "gateway"} and loss.began <= until and self.at <= loss.ended


@dataclass
class Report:
    answered: Counter[str] = field(default_factory=Counter)  # by kind
    losses: list[Loss] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    most_bytes: int = 0  # in RAM
    most_on: dict[str, int] = field(default_factory=dict)  # bytes by device
    most_engines: int = 0
    loads: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)

    @property
    def unexcused(self) -> list[Loss]:
        """Return the losses of which nothing was ended while they were answered."""
        return [loss for loss in self.losses if not any(end.explains(loss) for end in self.ends)]


def _openai(served: Served, model: str, *, stream: bool) -> None:
    with served.openai() as client:
        if stream:
            chunks = list(
                client.chat.completions.create(model=model, messages=HI, max_tokens=N_TOKENS, stream=True)
            )
            assert chunks[-1].choices[0].finish_reason in {"length", "stop"}
        else:
            answer = client.chat.completions.create(model=model, messages=HI, max_tokens=N_TOKENS)
            assert answer.choices[0].finish_reason in {"length", "stop"}
            assert answer.usage
            assert 0 < answer.usage.completion_tokens <= N_TOKENS


def _anthropic(served: Served, model: str, *, stream: bool) -> None:
    with anthropic.Anthropic(
        base_url=served.url, api_key="x", max_retries=0, timeout=PATIENCE_S * 2
    ) as client:
        if stream:
            with client.messages.stream(model=model, messages=HI, max_tokens=N_TOKENS) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(model=model, messages=HI, max_tokens=N_TOKENS)
    assert message.stop_reason in {"max_tokens", "end_turn"}


def _ollama(served: Served, model: str, *, stream: bool) -> None:
    client = ollama.Client(host=served.url, timeout=PATIENCE_S * 2)
    try:
        options = {"num_predict": N_TOKENS}
        if stream:
            last = list(client.chat(model=model, messages=HI, options=options, stream=True))[-1]
        else:
            last = client.chat(model=model, messages=HI, options=options)
        assert last.done_reason in {"length", "stop"}
    finally:
        client._client.close()


def _embeddings(served: Served, model: str, *, stream: bool) -> None:
    with served.openai() as client:
        answer = client.embeddings.create(model=model, input=["one", "two"])
    assert [len(each.embedding) for each in answer.data] == [576, 576]


Ask = Callable[..., None]
CHATS: dict[str, Ask] = {"openai": _openai, "anthropic": _anthropic, "ollama": _ollama}


class Soak:
    def __init__(
        self,
        served: Served,
        seed: int,
        tell: Callable[[str], None] = lambda _words: None,
        devices: Sequence[str] = (),
    ) -> None:
        self.served, self.chance, self.report, self.tell = served, random.Random(seed), Report(), tell
        self.devices = devices
        self._up = threading.Event()
        self._up.set()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._done = 0

    def run(self, n: int, *, clients: int, disturbances: Sequence[str]) -> Report:
        """Ask `n` requests, and meanwhile kill or freeze an engine, or kill the gateway, in this order."""
        began = time.monotonic()
        looking = threading.Thread(target=self._look, daemon=True)
        looking.start()
        asks = self._asks(n)
        with ThreadPoolExecutor(clients) as pool:
            pending = [pool.submit(self._ask, *ask) for ask in asks]
            for number, what in enumerate(disturbances, 1):
                self._until(number * n // (len(disturbances) + 1))
                self._disturb(what)
            for each in pending:
                each.result()
        self._over.set()
        looking.join()
        self.report.seconds = time.monotonic() - began
        self.report.loads += self.served.status()["loads"]
        return self.report

    def _asks(self, n: int) -> list[tuple[str, str, bool]]:
        asks: list[tuple[str, str, bool]] = []
        while len(asks) < n:
            model = self.chance.choice("aabbc")
            for _ in range(1 + int(self.chance.expovariate(1 / _STAYS))):
                kind = "embeddings" if model == EMBEDS else self.chance.choice(sorted(CHATS))
                asks.append((kind, model, self.chance.random() < 0.5))
        return asks[:n]

    def _ask(self, kind: str, model: str, stream: bool) -> None:
        self._up.wait()
        began = time.monotonic()
        ask = _embeddings if kind == "embeddings" else CHATS[kind]
        try:
            ask(self.served, model, stream=stream)
        except AssertionError:  # an answer that is none
            raise
        except Exception as error:  # noqa: BLE001  whatever its client makes of it, it is lost
            loss = Loss(kind, model, began, time.monotonic(), f"{type(error).__name__}: {error}")
            with self._lock:
                self.report.losses.append(loss)
                self._done += 1
            return
        with self._lock:
            self.report.answered[f"{kind}{' stream' if stream and kind != 'embeddings' else ''}"] += 1
            self.report.waits.append(time.monotonic() - began)
            self._done += 1

    def _until(self, n_done: int) -> None:
        while self._done < n_done:
            time.sleep(0.05)

    def _disturb(self, what: str) -> None:
        if what == "gateway":
            self._up.clear()  # nobody begins while it is away
            self.report.loads += self.served.status()["loads"]
            self._note(what, "gateway")
            self.served.end(signal.SIGKILL)
            self.served.start()
            self._up.set()
            return
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            states = self.served.states()
            there = [
                (name, entry.process)
                for name, entry in running().items()
                if states.get(name) == "ready" and entry.process is not None
            ]
            if there:
                name, process = self.chance.choice(there)
                self._note(what, name)
                os.kill(process.pid, signal.SIGSTOP if what == "freeze" else signal.SIGKILL)
                return
            time.sleep(0.1)
        raise AssertionError("no model is ready")

    def _note(self, what: str, who: str) -> None:
        self.report.ends.append(End(what, who, time.monotonic()))
        report = self.report
        self.tell(
            f"{what} ({who}) after {self._done} requests: {len(report.losses)} lost, {len(report.unexcused)} of them "
            f"unexplained; at most {report.most_engines} engines with {report.most_bytes >> 20} MiB of RAM"
        )

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            logs = logs_of_running()
            taken = [n_bytes for log in logs if (n_bytes := allocated_bytes(log))]
            on = {device: sum(allocated_bytes(log, device) for log in logs) for device in self.devices}
            for device, n_bytes in on.items():
                self.report.most_on[device] = max(self.report.most_on.get(device, 0), n_bytes)
            self.report.most_bytes = max(self.report.most_bytes, sum(taken) - sum(on.values()))
            self.report.most_engines = max(self.report.most_engines, len(taken))
