"""Decide what every event changes: a table of state x event -> state and effects. Pure.

Whatever the order of events: no model is started unless its bytes fit beside all that is held, and every
request that arrived is admitted or refused, or its client leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from launcher.gateway.admission.choose import is_coming_back, is_short
from launcher.gateway.admission.events import (
    Arrived,
    Effect,
    Ended,
    Event,
    Failed,
    Known,
    LoadAsked,
    Loaded,
    Measure,
    Measured,
    Planned,
    Refusal,
    Refuse,
    Shrunk,
    StayedUp,
    Stopped,
    Ticked,
    Unload,
    UnloadAsked,
)
from launcher.gateway.admission.settle import Next, refuse_all, retry_after_s, settle
from launcher.gateway.admission.state import (
    GOING,
    HOLDING,
    Bytes,
    Failure,
    Model,
    Phase,
    Policy,
    State,
    Waiting,
)


def advance(state: State, event: Event, policy: Policy) -> Next:
    """Return the state after `event`, and what to do."""
    state, first = _apply(state, event, policy)
    state, then = settle(state, event.now, policy)
    return state, (*first, *then)


def _apply(state: State, event: Event, policy: Policy) -> Next:
    match event:
        case Known():
            return _known(state, event), ()
        case Arrived():
            return _arrived(state, event, policy)
        case Ended():
            return _ended(state, event), ()
        case (
            Planned() | Shrunk() | Loaded() | Failed() | Stopped() | StayedUp() | LoadAsked() | UnloadAsked()
        ):
            model = state.models.get(event.name)
            return (state, ()) if model is None else _of_model(state, event, model, policy)
        case Measured():
            return _measured(state, event, policy), ()
        case Ticked():
            return state, ((Measure(),) if is_coming_back(state) or is_short(state) else ())


_OfModel = Planned | Shrunk | Loaded | Failed | Stopped | StayedUp | LoadAsked | UnloadAsked


def _of_model(state: State, event: _OfModel, model: Model, policy: Policy) -> Next:  # noqa: PLR0911  one table
    name = event.name
    match event, model.phase:
        case Planned(needs=needs, load_s=load_s), Phase.PLANNING | Phase.UNPLANNED | Phase.OUT:
            out = replace(
                model,
                phase=Phase.OUT,
                needs=needs,
                load_s=load_s,
                can_shrink=event.can_shrink,
                short_since=None,
            )
            return state.having(name, out), ()
        case Shrunk(needs=needs, share=share), _ if model.shrinking:
            small = needs if share >= policy.least_share else None
            return state.having(name, replace(model, shrinking=False, small=small)), ()
        case Loaded(seen=seen, load_s=load_s), Phase.LOADING:
            ready = replace(
                model,
                phase=Phase.READY,
                needs=model.needs if seen is None else seen,
                slots=event.slots or model.slots,
                load_s=load_s,
                used_at=event.now,
                ready_at=event.now,
                failure=None,
                asked_for=False,
            )
            return state.having(name, ready), ()
        case Failed(), Phase.PLANNING | Phase.LOADING:
            return _failed(state, event, model, policy)
        case Stopped(), Phase.READY | Phase.STOPPING:
            # the requests it was answering end with it
            active = {request: other for request, other in state.active.items() if other != name}
            leaving = replace(model, phase=Phase.LEAVING, stopped_at=event.now, n_active=0)
            return replace(state, active=active).having(name, leaving), (Measure(),)
        case StayedUp(), Phase.STOPPING:
            return state.having(name, replace(model, phase=Phase.READY, used_at=event.now)), ()
        case LoadAsked(), Phase.UNPLANNED | Phase.OUT:
            return state.having(name, replace(model, asked_for=True, used_at=event.now)), ()
        case UnloadAsked(), Phase.READY if not model.n_active:
            return state.having(name, replace(model, phase=Phase.STOPPING)), (Unload(name),)
        case _:  # the event means nothing in this phase
            return state, ()


def _known(state: State, event: Known) -> State:
    old = state.models.get(event.name)
    if event.model.phase is Phase.READY and (old is None or old.phase in {Phase.UNPLANNED, Phase.OUT}):
        state = _with_adopted(state, event.name)
    if old is None:
        return state.having(event.name, event.model)
    new = event.model
    settings = replace(old, slots=new.slots, priority=new.priority, pinned=new.pinned, ttl_s=new.ttl_s)
    if new.phase is Phase.READY and old.phase in {Phase.UNPLANNED, Phase.OUT}:  # somebody else started it
        settings = replace(
            settings,
            phase=Phase.READY,
            needs=new.needs,
            load_s=new.load_s,
            used_at=event.now,
            ready_at=event.now,
            failure=None,
        )
    return state.having(event.name, settings)


def _with_adopted(state: State, name: str) -> State:
    """Count what a deployment holds among the capacity, where the last measurement left it out."""
    capacity, outside = dict(state.capacity), dict(state.outside)
    for place, n_bytes in outside.pop(name, {}).items():
        capacity[place] = capacity.get(place, 0) + n_bytes
    return replace(state.having_capacity(capacity), outside=outside)


def _arrived(state: State, event: Arrived, policy: Policy) -> Next:
    def refused(why: Refusal, sentence: str, retry_s: float | None = None) -> tuple[Effect, ...]:
        return (Refuse(request=event.request, why=why, sentence=sentence, retry_after_s=retry_s),)

    model = state.models.get(event.model)
    if model is None:
        return state, refused(Refusal.UNKNOWN_MODEL, f"there is no model {event.model}")
    failure = model.failure
    if failure is not None and event.now < failure.until and model.phase in {Phase.UNPLANNED, Phase.OUT}:
        return state, refused(Refusal(failure.why), failure.sentence, failure.until - event.now)
    if len(state.waiting) >= policy.most_waiting:
        sentence = f"{len(state.waiting)} requests wait already"
        return state, refused(Refusal.QUEUE_FULL, sentence, retry_after_s(state, event.model))
    waiting = Waiting(request=event.request, model=event.model, since=event.now)
    return replace(state, waiting=(*state.waiting, waiting)), ()


def _ended(state: State, event: Ended) -> State:
    name = state.active.get(event.request)
    if name is None:
        return replace(state, waiting=tuple(w for w in state.waiting if w.request != event.request))
    active = {key: model for key, model in state.active.items() if key != event.request}
    model = state.models.get(name)
    state = replace(state, active=active)
    if model is None:
        return state
    return state.having(name, replace(model, n_active=max(0, model.n_active - 1), used_at=event.now))


def _failed(state: State, event: Failed, model: Model, policy: Policy) -> Next:
    why = event.why
    if why is Refusal.DOES_NOT_FIT and model.phase is Phase.LOADING:
        why = Refusal.SHORT_OF_MEMORY  # the plan fitted: somebody else was quicker
    elif why is Refusal.DOES_NOT_FIT and is_coming_back(state):
        # it was planned without the memory that is on its way back: those who wait go on waiting
        since = event.now if model.short_since is None else model.short_since
        if event.now - since < policy.shortage_s:
            return state.having(event.name, replace(model, phase=Phase.UNPLANNED, short_since=since)), ()
        why = Refusal.SHORT_OF_MEMORY
    n_times = 1 if model.failure is None else model.failure.n_times + 1
    pause_s = min(policy.most_retry_s, policy.retry_s * 2.0 ** (n_times - 1))
    failure = Failure(sentence=event.sentence, why=why, until=event.now + pause_s, n_times=n_times)
    was_loading = model.phase is Phase.LOADING
    # what a load took is back like that of a server that was stopped; it is planned again then
    phase = Phase.LEAVING if was_loading else Phase.UNPLANNED
    state = state.having(
        event.name,
        replace(model, phase=phase, failure=failure, asked_for=False, stopped_at=event.now, short_since=None),
    )
    state, refused = refuse_all(state, event.name, why, event.sentence, pause_s)
    return state, (*refused, *((Measure(),) if was_loading else ()))


def _measured(state: State, event: Measured, policy: Policy) -> State:
    """Take the memory of models that are gone as free once it is seen back; else learn the capacity."""
    for name, model in state.models.items():
        if model.phase is not Phase.LEAVING:
            continue
        # one after the other: bytes that came back are counted for one of them
        missing = _not_back(state, name, event.free, policy)
        if missing and event.now - model.stopped_at < policy.back_s:
            continue
        taken = {place: n_bytes for place, n_bytes in missing.items() if not _loads_on(state, place)}
        after = Phase.UNPLANNED if model.failure is not None else Phase.OUT
        state = _without(state, name, taken, event.beside or {}).having(name, _gone(model, after))
    moving = any(m.phase in GOING or m.phase is Phase.LOADING for m in state.models.values())
    if moving:
        return state
    # a model that was not there yet when this was read is not missing in what was free
    unread = () if event.beside is None else state.models.keys() - event.beside.keys()
    held = state.held(but_not=unread)
    seen = {place: n_bytes + held.get(place, 0) for place, n_bytes in event.free.items()}
    outside = {
        name: needs
        for name, needs in (state.outside if event.beside is None else event.beside).items()
        if name not in state.models or state.models[name].phase not in HOLDING
    }
    return replace(state.having_capacity({**state.capacity, **seen}), outside=outside)


def _without(state: State, name: str, taken: Bytes, beside: Mapping[str, Bytes]) -> State:
    """Take off what somebody else has taken of the memory that was the model's."""
    if not taken:
        return state
    less = {place: max(0, state.capacity.get(place, 0) - n_bytes) for place, n_bytes in taken.items()}
    # a deployment of this name that is there again brings it along
    outside = {**state.outside, name: taken} if name in beside else state.outside
    return replace(state.having_capacity({**state.capacity, **less}), outside=outside)


def _gone(model: Model, after: Phase) -> Model:
    # next time it may have all the memory of its whole plan
    needs = model.needs if model.whole is None else model.whole
    return replace(model, phase=after, n_active=0, needs=needs, whole=None)


def _not_back(state: State, name: str, free: Mapping[str, int], policy: Policy) -> dict[str, int]:
    """Return the bytes of a model that is gone and which the drivers do not show as free yet, by place."""
    gone = state.models[name]
    # What comes back is first of those that went before: else bytes of one, which stays counted because a
    # model loads there, would be taken for another's, and free twice once its time is up.
    before = {
        other
        for other, model in state.models.items()
        if model.phase is Phase.LEAVING and model.stopped_at <= gone.stopped_at
    }
    others = state.held(HOLDING - {Phase.LOADING}, but_not=before)
    missing: dict[str, int] = {}
    for place, n_bytes in gone.needs.items():
        if place not in free or not n_bytes:
            continue
        # a model that loads there has taken some of it, nobody knows how much: then none of it is free yet
        expected = state.capacity.get(place, 0) - others.get(place, 0)
        lack = expected - free[place]
        if lack > policy.slack_bytes:
            missing[place] = min(lack, n_bytes)
    return missing


def _loads_on(state: State, place: str) -> bool:
    return any(m.phase is Phase.LOADING and m.needs.get(place) for m in state.models.values())
