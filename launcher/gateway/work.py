"""Do what admission has decided, in threads; every outcome is an event."""

from __future__ import annotations

import logging
import time

from launcher.errors import DoesNotFit, LauncherError
from launcher.gateway.admission.events import (
    Event,
    Failed,
    Loaded,
    Measured,
    Planned,
    Refusal,
    Shrunk,
    StayedUp,
    Stopped,
)
from launcher.gateway.admission.state import Bytes
from launcher.gateway.catalogue import Servable
from launcher.gateway.deployments import Deployments, Running
from launcher.gateway.threads import in_thread
from launcher.progress import OnProgress

log = logging.getLogger("launcher.gateway")


class Work:
    """Plans, loads, unloads and measures; remembers what was planned."""

    def __init__(self, deployments: Deployments) -> None:
        self.n_loads = 0
        self.planned: dict[str, Bytes] = {}
        self.free: Bytes = {}  # as last measured
        self._deployments = deployments
        self._speeds: dict[str, float | None] = {}  # of whole plans, in forecast tokens/s

    async def plan(self, name: str, servable: Servable) -> Event:
        try:
            planned = await in_thread(lambda: self._deployments.plan(servable))
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait get a sentence
            return _failed(name, error)
        self.planned[name], self._speeds[name] = planned.needs, planned.tokens_per_s
        return Planned(
            name=name,
            needs=servable.with_group(planned.needs),
            load_s=planned.load_s,
            now=time.monotonic(),
            can_shrink=planned.can_shrink,
        )

    async def shrink(self, name: str, servable: Servable) -> Event:
        needs, share = None, 0.0
        try:
            planned = await in_thread(lambda: self._deployments.shrink(servable))
        except Exception as error:  # noqa: BLE001  whatever it is, others make room then
            log.warning("%s is not planned smaller: %s", servable.name, sentence_of(error))
            planned = None
        whole = self._speeds.get(name)
        if planned is not None and planned.tokens_per_s is not None and whole:
            needs, share = servable.with_group(planned.needs), planned.tokens_per_s / whole
        return Shrunk(name=name, needs=needs, share=share, now=time.monotonic())

    async def load(self, name: str, servable: Servable, tell: OnProgress) -> tuple[Running | None, Event]:
        began = time.monotonic()
        self.n_loads += 1
        log.info("loading %s", servable.name)
        try:
            started = await in_thread(lambda: self._deployments.start(servable, tell))
        except Exception as error:  # noqa: BLE001  as above
            return None, _failed(name, error)
        now = time.monotonic()
        log.info("%s is ready after %.1f s", servable.name, now - began)
        slots, seen = max(1, started.running.slots), servable.with_group(started.seen)
        return started.running, Loaded(name=name, seen=seen, load_s=now - began, now=now, slots=slots)

    async def unload(self, name: str) -> Event:
        log.info("unloading %s", name)
        try:
            await in_thread(lambda: self._deployments.stop(name))
        except Exception as error:  # noqa: BLE001  as above
            log.warning("%s could not be unloaded: %s", name, sentence_of(error))
            return StayedUp(name=name, now=time.monotonic())
        return Stopped(name=name, now=time.monotonic())

    async def measure(self) -> Event:
        try:
            memory = await in_thread(self._deployments.read_memory)
        except (LauncherError, OSError) as error:
            log.warning("the free memory cannot be read: %s", sentence_of(error))
            self.free = {}
            return Measured(free={}, now=time.monotonic())  # memory counts as back with its process
        self.free = memory.free
        return Measured(free=memory.free, beside=memory.beside, now=time.monotonic())


def _failed(name: str, error: Exception) -> Failed:
    log.warning("%s: %s", name, sentence_of(error))
    why = Refusal.DOES_NOT_FIT if isinstance(error, DoesNotFit) else Refusal.LOAD_FAILED
    return Failed(name=name, sentence=sentence_of(error), now=time.monotonic(), why=why)


def sentence_of(error: BaseException) -> str:
    if isinstance(error, LauncherError):
        return error.message if error.hint is None else f"{error.message} (hint: {error.hint})"
    return f"{type(error).__name__}: {error}"
