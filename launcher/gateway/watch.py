"""Watch engines that requests wait for, and end those that are frozen: their supervisor starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from launcher.gateway.deployments import Running
from launcher.gateway.engine_http import Address, EngineFrozen, EngineGone, Engines, connect
from launcher.gateway.keeper import Keeper
from launcher.gateway.silence import Seen, Silence, SilenceLimits
from launcher.gateway.work import sentence_of

# answered by a thread of its own, and by the loop that computes
_HEALTH, _LOOP = b"/health", b"/slots"

log = logging.getLogger("launcher.gateway")


@dataclass(slots=True)
class _Watched:
    """An engine that is silent."""

    silence: Silence = field(default_factory=Silence)
    questions: dict[bytes, asyncio.Task[bool]] = field(default_factory=dict)

    def answered(self, target: bytes) -> bool:
        """Tell if the question has been answered since the last look."""
        question = self.questions.get(target)
        if question is None or not question.done():
            return False
        del self.questions[target]
        return question.result()

    def close(self) -> None:
        for question in self.questions.values():
            question.cancel()


class Watch:
    """Looks at engines as long as requests wait for them, so that none waits for ever."""

    def __init__(self, keeper: Keeper, engines: Engines, limits: SilenceLimits | None = None) -> None:
        self._keeper, self._engines = keeper, engines
        self._limits = limits or SilenceLimits()
        self._watched: dict[Address, _Watched] = {}

    async def go_on(self) -> None:
        """Look again and again, until cancelled."""
        last = time.monotonic()
        try:
            while True:
                await asyncio.sleep(self._limits.look_s)
                now = time.monotonic()
                passed_s, last = now - last, now
                silent = self._engines.silent(now - self._limits.quiet_s)
                for address in self._watched.keys() - silent:
                    self._watched.pop(address).close()
                for running in tuple(self._keeper.running.values()):
                    if running.address in silent:
                        try:
                            await self._look_at(running, passed_s)
                        except Exception as error:  # noqa: BLE001  the others are looked at all the same
                            log.warning("%s cannot be watched: %s", running.name, sentence_of(error))
        finally:
            for watched in self._watched.values():
                watched.close()

    async def _look_at(self, running: Running, passed_s: float) -> None:
        watched = self._watched.setdefault(running.address, _Watched())
        seen = Seen(
            answers_health=watched.answered(_HEALTH),
            came_round=watched.answered(_LOOP),
            cpu_s=await self._keeper.cpu_s(running.name),
        )
        watched.silence = watched.silence.after(passed_s, seen, self._limits)
        problem = watched.silence.problem(self._limits)
        if problem is None:
            for target in (_HEALTH, _LOOP):
                if target not in watched.questions:
                    watched.questions[target] = asyncio.create_task(_answers(running, target))
            return
        self._watched.pop(running.address).close()
        log.warning("%s is ended: %s", running.name, problem)
        sentence = f"{running.name} is frozen: {problem}; it is being started again"
        self._engines.give_up(running.address, EngineFrozen(sentence, hint=f"launcher logs {running.name}"))
        await self._keeper.end_frozen(running.name)


async def _answers(running: Running, target: bytes) -> bool:
    headers = [(b"host", b"127.0.0.1")]
    if running.secret is not None:
        headers.append((b"authorization", b"Bearer " + running.secret.encode()))
    try:
        connection = await connect(running.address)
    except EngineGone:
        return False
    try:
        with contextlib.suppress(EngineGone):
            await connection.send("GET", target, headers, _no_body())
            return True
    finally:
        connection.close()
    return False


async def _no_body() -> AsyncIterator[bytes]:
    no_blocks: tuple[bytes, ...] = ()
    for block in no_blocks:
        yield block
