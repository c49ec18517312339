"""Do what a state allows: admit requests, start and unload models, refuse what cannot be. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from launcher.gateway.admission.choose import (
    can_ever_fit,
    does_not_fit,
    fits,
    free_for,
    in_turn,
    is_coming_back,
    lacking_beside_pinned,
    leaves_room,
    make_room,
    may_shrink,
    use_now,
    waited_s,
)
from launcher.gateway.admission.events import (
    Admit,
    Effect,
    Load,
    Plan,
    Refusal,
    Refuse,
    Shrink,
    Unload,
)
from launcher.gateway.admission.state import (
    HOLDING,
    Bytes,
    Model,
    Phase,
    Policy,
    State,
    Waiting,
    Yielding,
)

Next = tuple[State, tuple[Effect, ...]]

_A_REQUEST_S = 10.0  # what one is taken to last when Retry-After is guessed


def settle(state: State, now: float, policy: Policy) -> Next:
    """Return the state in which nothing more can be done at this time, and what was done."""
    state, late = _refuse_late(state, now, policy)
    state, idle = _unload_idle(state, now)
    # first, so that a model which has just been loaded is busy before room is made for others
    state, admitted = _admit(_still_yielding(state, policy), now, policy)
    state, started = _start_in_turn(_end_shortages(state), now, policy)
    return state, (*late, *idle, *admitted, *started)


def refuse_all(state: State, name: str, why: Refusal, sentence: str, retry_s: float | None = None) -> Next:
    """Refuse every request that waits for the model."""
    refused = state.waits_for(name)
    state = replace(state, waiting=tuple(each for each in state.waiting if each.model != name))
    return state, tuple(
        Refuse(request=each.request, why=why, sentence=sentence, retry_after_s=retry_s) for each in refused
    )


def retry_after_s(state: State, name: str) -> float:
    """Guess when a request for the model would be answered: after those that wait and their loads."""
    loads = {each.model for each in state.waiting if state.models[each.model].phase is not Phase.READY}
    ahead = sum(state.models[other].load_s for other in loads | {name})
    return min(600.0, max(1.0, ahead + _A_REQUEST_S * len(state.waits_for(name))))


def _refuse_late(state: State, now: float, policy: Policy) -> Next:
    late = {each.request for each in state.waiting if now - each.since >= policy.most_wait_s}
    if not late:
        return state, ()
    effects = tuple(
        Refuse(
            request=each.request,
            why=Refusal.WAITED_TOO_LONG,
            sentence=f"{each.model} did not become free within {policy.most_wait_s:.0f} s",
            retry_after_s=retry_after_s(state, each.model),
        )
        for each in state.waiting
        if each.request in late
    )
    return replace(state, waiting=tuple(w for w in state.waiting if w.request not in late)), effects


def _unload_idle(state: State, now: float) -> Next:
    wanted = {each.model for each in state.waiting}
    idle = [
        name
        for name, model in state.models.items()
        if model.is_idle
        and not model.pinned
        and model.ttl_s is not None
        and now - model.used_at >= model.ttl_s
        and name not in wanted
    ]
    return _unload(state, idle)


def _unload(state: State, names: Iterable[str]) -> Next:
    effects: list[Effect] = []
    for name in names:
        state = state.having(name, replace(state.models[name], phase=Phase.STOPPING))
        effects.append(Unload(name))
    return state, tuple(effects)


def _start_in_turn(state: State, now: float, policy: Policy) -> Next:
    """Start what fits, in turn; make room for the first that does not."""
    effects: list[Effect] = []
    turns = in_turn(state, policy)
    blocked: str | None = None  # the first in turn that has to wait
    for name in turns:
        model = state.models[name]
        if _is_planned_later(state, model, now, policy):
            continue
        if model.phase is Phase.UNPLANNED:
            state = state.having(name, replace(model, phase=Phase.PLANNING))
            effects.append(Plan(name))
        elif model.shrinking:
            blocked = blocked or name
        elif (needs := _startable(state, name, blocked, now, policy)) is not None:
            state = state.having(name, _loading(model, needs))
            effects.append(Load(name, needs))
        elif may_shrink(state, name, policy):
            if blocked is None:
                blocked = name
                within = free_for(state, model.needs)
                asked = replace(model, shrinking=True, asked_within=within, n_asked=model.n_asked + 1)
                state = state.having(name, asked)
                effects.append(Shrink(name, within))
        elif lacking_beside_pinned(state, model.needs):
            state, refused = _wait_or_refuse(state, name, now, policy)
            effects += refused
        elif blocked is None:
            blocked = name
            state, unloaded = _make_room_for(state, name, now, policy)
            effects += unloaded
    return state, tuple(effects)


def _is_planned_later(state: State, model: Model, now: float, policy: Policy) -> bool:
    """Tell if its plan, which did not fit, is made again when the memory of others is back."""
    since = model.short_since
    is_late = since is not None and now - since < policy.shortage_s
    return model.phase is Phase.UNPLANNED and is_late and is_coming_back(state)


def _wait_or_refuse(state: State, name: str, now: float, policy: Policy) -> Next:
    """Refuse a model that fits not even alone; where it did once, when that has lasted."""
    model = state.models[name]
    since = now if model.short_since is None else model.short_since
    is_passing = can_ever_fit(state, model.needs)
    if is_passing and now - since < policy.shortage_s:
        return state.having(name, replace(model, short_since=since)), ()
    sentence = does_not_fit(state, name)
    state = state.having(name, replace(model, asked_for=False, short_since=since if is_passing else None))
    if is_passing:
        return refuse_all(state, name, Refusal.SHORT_OF_MEMORY, sentence, policy.shortage_s)
    return refuse_all(state, name, Refusal.DOES_NOT_FIT, sentence)


def _end_shortages(state: State) -> State:
    """Forget of models that they lack memory once they fit again."""
    for name, model in state.models.items():
        is_planned = model.phase not in {Phase.UNPLANNED, Phase.PLANNING}
        if model.short_since is not None and is_planned and not lacking_beside_pinned(state, model.needs):
            state = state.having(name, replace(model, short_since=None))
    return state


def _startable(state: State, name: str, blocked: str | None, now: float, policy: Policy) -> Bytes | None:
    """Return the bytes within which the model may start now: its whole plan's, or a smaller one's."""
    model, held = state.models[name], state.held(HOLDING)
    for needs in (model.needs, model.small):
        fitting = needs is not None and fits(needs, held, state.capacity)
        if needs is not None and fitting and leaves_room(state, needs, blocked, now, policy):
            return needs
    return None


def _loading(model: Model, needs: Bytes) -> Model:
    whole = None if needs == model.needs else model.needs
    return replace(
        model, phase=Phase.LOADING, needs=needs, whole=whole, small=None, asked_within=None, n_asked=0
    )


def _make_room_for(state: State, name: str, now: float, policy: Policy) -> Next:
    needs = state.models[name].needs
    # a model that is waited for is busy in a moment: it goes only when it has to yield
    wanted = {each.model for each in state.waiting}
    yielding = frozenset[str]() if state.yielding is None else state.yielding.models
    idle = [
        other
        for other, model in state.models.items()
        if model.is_idle and not model.pinned and (other not in wanted or other in yielding)
    ]
    chosen = make_room(state, needs, now, policy, [other for other in idle if other in yielding])
    chosen = make_room(state, needs, now, policy, idle) if chosen is None else chosen
    if chosen is not None:
        return _unload(state, chosen)
    if state.yielding is None and waited_s(state, name, now) >= policy.patience_s:
        busy = [other for other, model in state.models.items() if _has_had_its_turn(model, now, policy)]
        chosen = make_room(state, needs, now, policy, busy)
        if chosen:
            state = replace(state, yielding=Yielding(to=name, models=frozenset(chosen)))
            return _unload(state, [other for other in chosen if state.models[other].is_idle])
    return state, ()


def _has_had_its_turn(model: Model, now: float, policy: Policy) -> bool:
    # Else most of the time would go into loading, and into waiting for the last of the old requests.
    lasted_s = now - model.ready_at
    return model.phase is Phase.READY and not model.pinned and lasted_s >= policy.turn_s(model.load_s)


def _still_yielding(state: State, policy: Policy) -> State:
    """Let models take requests again once the one they yield to has its memory, or nobody waits for it."""
    yielding = state.yielding
    if yielding is None or yielding.to in in_turn(state, policy):
        return state
    return replace(state, yielding=None)


def _admit(state: State, now: float, policy: Policy) -> Next:
    yielding = frozenset[str]() if state.yielding is None else state.yielding.models
    effects: list[Effect] = []
    left: list[Waiting] = []
    models, active = dict(state.models), dict(state.active)
    for each in sorted(state.waiting, key=lambda each: each.since):
        model = models[each.model]
        if model.phase is not Phase.READY or each.model in yielding or model.n_active >= model.slots:
            left.append(each)
            continue
        models[each.model] = replace(
            model, n_active=model.n_active + 1, used_at=now, use=use_now(model, now, policy) + 1.0
        )
        active[each.request] = each.model
        effects.append(Admit(each.request, each.model))
    if not effects:
        return state, ()
    return replace(state, models=models, active=active, waiting=tuple(left)), tuple(effects)
