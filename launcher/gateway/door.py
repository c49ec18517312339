"""Choose the deployment that a request is sent to: the model's own, or one of its replicas."""

from __future__ import annotations

from collections.abc import Collection

from launcher.gateway.admission.events import Refusal
from launcher.gateway.admission.state import Phase
from launcher.gateway.deployments import Running
from launcher.gateway.keeper import Keeper
from launcher.gateway.replicas import Readers, Replica, choose_replica
from launcher.gateway.ticket import Refused

_AGAIN_S = 5.0


class Door:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._readers = Readers()

    def choose(self, model: str, head: bytes, tried: Collection[str] = ()) -> str:
        """Return the deployment to ask for a request that begins like this; who was `tried` comes last.

        Raises Refused where the model has had replicas only, and none is left.
        """
        replicas = [self._as_replica(each) for each in self._keeper.replicas(model)]
        if not replicas and model not in self._keeper.state.models:
            sentence = f"no replica of {model} is left (hint: launcher ps)"
            raise Refused(Refusal.LOAD_FAILED, sentence, _AGAIN_S)
        chosen = choose_replica(replicas, self._readers.find(model, head), tried)
        if chosen is None or len(replicas) == 1:
            return chosen or model
        self._readers.note(model, head, chosen)
        return chosen

    def has_others(self, model: str) -> bool:
        """Tell if another deployment could be asked instead."""
        return len(self._keeper.replicas(model)) > 1

    def _as_replica(self, running: Running) -> Replica:
        state = self._keeper.state
        model, waiting = state.models.get(running.name), len(state.waits_for(running.name))
        active, slots = (0, running.slots) if model is None else (model.n_active, model.slots)
        return Replica(
            name=running.name,
            work=(active + waiting) / max(1, slots),
            is_ready=running.is_ready and model is not None and model.phase is Phase.READY,
            is_draining=running.is_draining,
        )
