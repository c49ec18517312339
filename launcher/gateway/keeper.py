"""Keep the state of admission and carry out what it decides: the one writer.

Everything here runs in the event loop; what blocks runs in threads, and its outcome comes back as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace

from launcher.errors import LauncherError
from launcher.gateway.admission.advance import advance
from launcher.gateway.admission.choose import is_coming_back
from launcher.gateway.admission.events import (
    Admit,
    Arrived,
    Effect,
    Ended,
    Event,
    Known,
    Load,
    LoadAsked,
    Measure,
    Plan,
    Refuse,
    Shrink,
    Stopped,
    Ticked,
    Unload,
    UnloadAsked,
)
from launcher.gateway.admission.state import Bytes, Model, Phase, Policy, State
from launcher.gateway.catalogue import Catalogue, Servable, Wanted
from launcher.gateway.deployments import Deployments, Running
from launcher.gateway.engine_http import is_open
from launcher.gateway.look import adopted, compare, known_of, servables_of
from launcher.gateway.moments import Moments
from launcher.gateway.places import Place
from launcher.gateway.threads import in_thread
from launcher.gateway.ticket import Refused, Ticket
from launcher.gateway.work import Work

_TICK_S, _LOOK_S, _MEASURE_S, _BACK_S = 1.0, 2.0, 30.0, 0.25
_LOOK_AGAIN_S = 0.5  # for a name that nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOptions:
    pinned: frozenset[str] = frozenset()  # keys of models that stay loaded
    policy: Policy = field(default_factory=Policy)


class Keeper:
    """The models' keeper: the only one who changes the state of admission."""

    def __init__(self, deployments: Deployments, catalogue: Catalogue, options: KeptOptions) -> None:
        self.state = State(capacity=catalogue.group_places())
        self.catalogue = catalogue
        self.running: dict[str, Running] = {}
        self.moments = Moments()
        self._deployments, self._work = deployments, Work(deployments)
        self._options = options
        self._tickets: dict[str, Ticket] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pins: dict[str, bool] = {}
        self._measuring = False
        self._looking = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._looked = 0.0

    @property
    def places(self) -> Mapping[str, Place]:
        return self._deployments.places

    @property
    def n_loads(self) -> int:
        return self._work.n_loads

    @property
    def planned(self) -> Mapping[str, Bytes]:
        return self._work.planned

    @property
    def free(self) -> Bytes:
        """Return the free memory as it was measured last."""
        return self._work.free

    # ---- for requests ----

    def ask(self, model: str) -> Ticket:
        """Queue a request for the model; `end` has to be called, whatever comes of it."""
        number = f"r{next(self._numbers)}"
        ticket = Ticket(number, model, asyncio.get_running_loop().create_future())
        self._tickets[number] = ticket
        self._apply(Arrived(request=number, model=model, now=_now()))
        return ticket

    def end(self, ticket: Ticket) -> None:
        """Say that a request is answered, or that nobody waits for it any more."""
        self._tickets.pop(ticket.request, None)
        if ticket.admitted.done():
            if not ticket.admitted.cancelled():
                ticket.admitted.exception()  # it is known, also where nobody waited for it
        else:
            ticket.admitted.cancel()
        self._apply(Ended(request=ticket.request, now=_now()))

    def replicas(self, model: str) -> tuple[Running, ...]:
        """Return the deployments that answer for a model: its own, and its replicas."""
        return tuple(each for each in self.running.values() if model in {each.name, each.replica_of})

    async def find(self, name: str | None) -> Wanted | None:
        """Return what a name means; looks first if `up` may have started it just now."""
        wanted = self.catalogue.find(name)
        if wanted is None and name is not None:
            asked = _now()
            await asyncio.sleep(self._looked + _LOOK_AGAIN_S - asked)
            await self.look(since=asked)
            wanted = self.catalogue.find(name)
        return wanted

    def load(self, model: str) -> None:
        self._apply(LoadAsked(name=model, now=_now()))

    def unload(self, model: str) -> None:
        self._apply(UnloadAsked(name=model, now=_now()))

    def pin(self, model: str, *, stays: bool) -> None:
        """Keep the model loaded, or let it go again, until the gateway ends."""
        self._pins[model] = stays
        known = self.state.models.get(model)
        if known is not None:
            self._apply(Known(name=model, model=replace(known, pinned=stays), now=_now()))

    # ---- life ----

    async def begin(self) -> None:
        """Take over what runs, learn what is free, and go on looking."""
        for servable in self.catalogue:
            self._apply(Known(name=servable.key, model=self._settings(servable), now=_now()))
        await self.look()
        await self.measure()
        for name in self._options.pinned:
            self.load(name)
        self._do_later(self._tick())

    async def close(self) -> None:
        """End what the gateway itself does; models go on running."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def replace_catalogue(self, catalogue: Catalogue) -> None:
        """Serve these models from now on, beside what runs."""
        found = [servable for each in self.running.values() for servable in servables_of(each)]
        self.catalogue = catalogue.with_running(found)
        for servable in self.catalogue:
            # one that runs keeps the settings it was started with; of replicas each is one that runs
            if servable.key not in self.running and servable.source != "replicas":
                self._apply(Known(name=servable.key, model=self._settings(servable), now=_now()))

    async def look(self, since: float = math.inf) -> None:
        """Find out what runs: adopt what somebody else started, notice what is gone.

        One look is enough for all who ask since the same moment.
        """
        async with self._looking:
            if self._looked >= since:
                return
            self._looked = _now()
            before = known_of(self.state.models)
            found = {each.name: each for each in await in_thread(self._deployments.find_all)}
        difference = compare(before, self.state.models, found)
        self.running.update({running.name: running for running in difference.stay})
        for running in difference.come:
            self._adopt(running)
        for name in difference.gone:
            self.running.pop(name, None)
            self._apply(Stopped(name=name, now=_now()))

    async def until_ready(self, name: str, limit_s: float) -> bool:
        """Wait while the model's server is started again by its supervisor; False if it is gone."""
        deadline = _now() + limit_s
        while _now() < deadline:
            await self.look(since=_now())  # one look for all who wait
            running = self.running.get(name)
            model = self.state.models.get(name)
            if running is None or model is None or model.phase is not Phase.READY:
                return False
            # its record says so until its supervisor has seen it end
            if running.is_ready and await is_open(running.address):
                return True
            await asyncio.sleep(_BACK_S)
        return False

    async def cpu_s(self, name: str) -> float | None:
        """Return the CPU time that the model's server has taken; None if nobody can tell."""
        try:
            return await in_thread(lambda: self._deployments.cpu_s(name))
        except (LauncherError, OSError):  # its record cannot be read
            return None

    async def end_frozen(self, name: str) -> None:
        """End a server that does not answer; its supervisor starts it again, or it is gone."""
        self.moments.remark(name, Phase.READY, "it was frozen, and is started again")
        await in_thread(lambda: self._deployments.end_server(name))
        await self.look()

    # ---- how ----

    def _adopt(self, running: Running) -> None:
        servable = self.catalogue.get(running.name)
        if servable is None:
            servable, *_ = servables = servables_of(running)
            self.catalogue = self.catalogue.with_running(servables)
        self.running[running.name] = running
        settings = self._settings(servable)
        # what `up` started stays until `stop`
        pinned = self._pins.get(running.name, settings.pinned or not running.is_ours)
        model = adopted(settings, running, needs=servable.with_group(running.needs), pinned=pinned)
        self._apply(Known(name=running.name, model=model, now=_now()))

    def _settings(self, servable: Servable) -> Model:
        config = servable.config
        return Model(
            slots=config.slots or 4,
            priority=config.priority,
            pinned=self._pins.get(servable.key, config.pin or servable.key in self._options.pinned),
            ttl_s=self.catalogue.idle_limit_s(servable),
            used_at=_now(),
        )

    def _apply(self, event: Event) -> None:
        before = self.state
        self.state, effects = advance(self.state, event, self._options.policy)
        if self.state.models is not before.models:
            self.moments.note(before, self.state)
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Admit(request, _):
                ticket = self._tickets.get(request)
                if ticket is not None and not ticket.admitted.done():
                    ticket.admitted.set_result(None)
            case Refuse():
                ticket = self._tickets.get(effect.request)
                if ticket is not None and not ticket.admitted.done():
                    refused = Refused(effect.why, effect.sentence, effect.retry_after_s)
                    ticket.admitted.set_exception(refused)
            case Plan(model):
                self._do_later(self._plan(model))
            case Shrink(model):
                self._do_later(self._shrink(model))
            case Load(model):
                self._do_later(self._load(model))
            case Unload(model):
                self._do_later(self._unload(model))
            case Measure():
                self._do_later(self._measure_until_back())

    async def _plan(self, name: str) -> None:
        self._apply(await self._work.plan(name, self._servable(name)))

    async def _shrink(self, name: str) -> None:
        self._apply(await self._work.shrink(name, self._servable(name)))

    async def _load(self, name: str) -> None:
        tell = self.moments.progress_of(name)
        running, event = await self._work.load(name, self._servable(name), tell)
        if running is not None:
            self.running[name] = running
        self._apply(event)
        if running is not None:
            await self.measure()  # what is shown as free is not that of before

    async def _unload(self, name: str) -> None:
        event = await self._work.unload(name)
        if isinstance(event, Stopped):
            self.running.pop(name, None)
        self._apply(event)

    async def _measure_until_back(self) -> None:
        if self._measuring:
            return
        self._measuring = True
        try:
            await self.measure()
            while is_coming_back(self.state):
                await asyncio.sleep(_BACK_S)
                await self.measure()
        finally:
            self._measuring = False

    async def measure(self) -> None:
        async with self._reading:  # an older reading never comes after a newer one
            self._apply(await self._work.measure())

    async def _tick(self) -> None:
        looked = measured = _now()
        while True:
            await asyncio.sleep(_TICK_S)
            self._apply(Ticked(now=_now()))
            with contextlib.suppress(LauncherError, OSError):
                if _now() - looked >= _LOOK_S:
                    looked = _now()
                    await self.look()
                if _now() - measured >= _MEASURE_S:
                    measured = _now()
                    await self.measure()

    def _servable(self, name: str) -> Servable:
        servable = self.catalogue.get(name)
        return servable if servable is not None else Servable(name=name, ref=name, source="running")

    def _do_later(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _now() -> float:
    return time.monotonic()
