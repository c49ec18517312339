"""Read from web servers under a policy: tries, a deadline, and an end to whatever does not end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

from launcher.system.network.answer import find_trouble
from launcher.system.network.body import read_all
from launcher.system.network.connection import Connection, origin_of
from launcher.system.network.policy import Policy, wait_after
from launcher.system.network.request import Resource, ask
from launcher.system.network.trouble import Trouble, TroubleKind

T = TypeVar("T")
Item = TypeVar("Item")

_TICK_S = 0.1
_MOST_CONNECTIONS = 4  # of a thread: the Hub and its storage; a chain of redirects to strangers is not kept


def insist(
    attempt: Callable[[], T | Trouble],
    policy: Policy,
    *,
    began: float,  # by `time.monotonic`: the deadline counts from here
    wait: Callable[[float], object],  # what it returns is true if nothing is wanted any more
) -> T | Trouble:
    """Return what `attempt` returns, tried again after trouble as the policy says."""
    failures = 0
    while True:
        outcome = attempt()
        if not isinstance(outcome, Trouble):
            return outcome
        elapsed_s = time.monotonic() - began
        if elapsed_s >= policy.deadline_s and not outcome.is_final:
            return replace(outcome, reason=f"{outcome.reason}, for {policy.deadline_s:.0f} s")
        dice = random.random()  # noqa: S311 (jitter)
        wait_s = wait_after(outcome, failures, policy, dice, elapsed_s)
        if wait_s is None or wait(wait_s):
            return outcome
        failures += 1


class Reader:
    """Reads for one purpose, as a context: one deadline for all of them. Safe for threads.

    Leaving ends what is under way, in whatever thread.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._began = time.monotonic()
        self._left = threading.Event()
        self._mine = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True, name="network-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        with self._lock:
            for connection in self._connections:
                connection.abort()
        self._close_own()

    def read(self, resource: Resource, *, most_bytes: int, parse: Callable[[bytes, str], T]) -> T | Trouble:
        """Read the resource whole and parse it: `parse` is given the body and its Link header.

        ValueError of `parse` says what makes no sense; then the resource is asked for again.
        """

        def attempt() -> T | Trouble:
            answer = ask(self.connection_to, resource, headers={})
            if isinstance(answer, Trouble):
                return answer
            trouble = find_trouble(answer.head, now=datetime.now(UTC))
            body = trouble or read_all(answer, most_bytes, self.policy)
            if isinstance(body, Trouble):
                return body
            try:
                return parse(body, answer.head.headers.get("link", ""))
            except ValueError as error:
                return Trouble(kind=TroubleKind.GARBLED, reason=str(error))

        return self.insist(attempt)

    def insist(self, attempt: Callable[[], T | Trouble]) -> T | Trouble:
        """Return what `attempt` returns, tried again after trouble as the policy says."""
        return insist(attempt, self.policy, began=self._began, wait=self._left.wait)

    def connection_to(self, url: str) -> Connection:
        """Return this thread's connection to the origin of `url`."""
        own, origin = self._own(), origin_of(url)
        if origin not in own:
            if len(own) >= _MOST_CONNECTIONS:
                own.pop(next(iter(own))).close()
            own[origin] = Connection(self.policy.patience_s)
            with self._lock:
                self._connections.append(own[origin])
        return own[origin]

    def side_by_side(self, work: Callable[[Item], T], items: Iterable[Item], *, most: int) -> list[T]:
        """Return what `work` makes of each item, in order, in at most `most` threads.

        The first failure is raised at once, as is Ctrl-C; leaving the reader ends the other threads.
        """
        todo, done = SimpleQueue[tuple[int, Item]](), SimpleQueue[tuple[int, T | BaseException]]()
        for numbered in enumerate(items):
            todo.put(numbered)
        n_items = todo.qsize()

        def run() -> None:
            with suppress(Empty):
                while not self._left.is_set():
                    index, item = todo.get_nowait()
                    try:
                        done.put((index, work(item)))
                    except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
                        done.put((index, error))
            self._close_own()

        # Daemons: a name lookup cannot be interrupted, and the exit of the process does not wait for it.
        for _ in range(min(most, n_items)):
            threading.Thread(target=run, daemon=True, name="network").start()
        results: dict[int, T] = {}
        while len(results) < n_items:
            index, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[index] = result
        return [results[index] for index in range(n_items)]

    def _own(self) -> dict[tuple[str, str, int], Connection]:
        if not hasattr(self._mine, "connections"):
            self._mine.connections = {}
        connections: dict[tuple[str, str, int], Connection] = self._mine.connections
        return connections

    def _close_own(self) -> None:
        for connection in self._own().values():
            connection.close()

    def _watch(self) -> None:
        """End reads that trickle where nothing looks: in a status line, in headers, in a chunk's length."""
        while not self._left.wait(_TICK_S):
            now = time.monotonic()
            late = now - self._began >= self.policy.deadline_s
            with self._lock:
                for connection in self._connections:
                    since = connection.reading_since
                    if since is not None and (late or now - since >= self.policy.crawl_window_s):
                        connection.abort()
