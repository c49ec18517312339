"""Compare what runs with what was known when somebody began to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.gateway.admission.state import Bytes, Model, Phase
from launcher.gateway.catalogue import Servable
from launcher.gateway.deployments import Running

Known = Mapping[str, tuple[Phase, float]]  # of each model its phase, and when it became ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a look changes."""

    come: tuple[Running, ...]  # somebody else started them
    stay: tuple[Running, ...]  # as they are now
    gone: tuple[str, ...]


def known_of(models: Mapping[str, Model]) -> Known:
    """Return what is known of models as a look begins."""
    return {name: (model.phase, model.ready_at) for name, model in models.items()}


def compare(before: Known, models: Mapping[str, Model], found: Mapping[str, Running]) -> Difference:
    """Return what a look that began at `before` changes; `models` is what is known at its end."""
    # what changed during the look counts, and not what it found: that may be older
    same = {name for name, now in known_of(models).items() if before.get(name) == now}
    free = {Phase.UNPLANNED, Phase.OUT}
    ready = {name for name in same if models[name].phase is Phase.READY}
    return Difference(
        come=tuple(
            running
            for name, running in found.items()
            if running.is_ready and (name not in models or (name in same and models[name].phase in free))
        ),
        stay=tuple(running for name, running in found.items() if name in ready),
        gone=tuple(name for name in ready if name not in found),
    )


def servables_of(running: Running) -> tuple[Servable, ...]:
    """Return the servable of a deployment that the catalogue does not have, and that of all its replicas."""
    ref, size, whole = running.model_id, running.size_bytes, running.replica_of
    own = Servable(name=running.name, ref=ref, source="running", size_bytes=size, replica_of=whole)
    if whole is None:
        return (own,)
    return own, Servable(name=whole, ref=ref, source="replicas", size_bytes=size)


def adopted(settings: Model, running: Running, *, needs: Bytes, pinned: bool) -> Model:
    """Return the model of a deployment that is taken over."""
    return replace(
        settings,
        phase=Phase.READY,
        needs=needs,
        slots=max(1, running.slots),
        pinned=pinned,
        ready_at=settings.used_at,
    )
