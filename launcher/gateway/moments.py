"""Note what models are doing, for those who wait for them and those who watch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass

from launcher.gateway.admission.state import Phase, State
from launcher.progress import OnProgress, Step

_MOST_CHANGES = 100
_TOLD = frozenset({Phase.LOADING, Phase.READY, Phase.LEAVING})


@dataclass(slots=True)
class Moment:
    """What a model is doing."""

    since: float
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A model's way from one phase to another."""

    at: float  # seconds since 1970
    model: str
    phase: Phase
    words: str = ""  # why it failed, or what is worth saying


class Moments:
    """What every model is doing, and the last changes."""

    def __init__(self) -> None:
        self.changes: deque[Change] = deque(maxlen=_MOST_CHANGES)
        self._by_model: dict[str, Moment] = {}

    def get(self, name: str) -> Moment | None:
        return self._by_model.get(name)

    def note(self, before: State, after: State) -> None:
        """Note the models that have another phase now."""
        for name, model in after.models.items():
            old = before.models.get(name)
            if old is None or old.phase is not model.phase:
                self._by_model[name] = Moment(time.monotonic())
                failed = model.failure is not None and (old is None or model.failure is not old.failure)
                if (old is not None or model.phase is Phase.READY) and (failed or model.phase in _TOLD):
                    words = model.failure.sentence if failed and model.failure is not None else ""
                    self.changes.append(Change(at=time.time(), model=name, phase=model.phase, words=words))

    def remark(self, name: str, phase: Phase, words: str) -> None:
        """Note what happened to a model without a change of its phase."""
        self.changes.append(Change(at=time.time(), model=name, phase=phase, words=words))

    def progress_of(self, name: str) -> OnProgress:
        """Return what notes the progress of a load, from its thread."""
        loop = asyncio.get_running_loop()

        def note(words: str) -> None:
            moment = self._by_model.get(name)
            if moment is not None:
                moment.words = words

        def tell(step: Step) -> None:
            if step.total and not step.is_remark:
                words = f"{step.phase} {step.done * 100 // step.total} %"
                with contextlib.suppress(RuntimeError):  # the gateway has ended meanwhile
                    loop.call_soon_threadsafe(note, words)

        return tell
