"""Choose who goes first, who makes room for whom, and say what fits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from launcher.gateway.admission.state import (
    GOING,
    HOLDING,
    STAYING,
    Bytes,
    Model,
    Phase,
    Policy,
    State,
    is_group,
)
from launcher.units import format_bytes

_EXHAUSTIVE = 8  # of so many candidates all sets are tried (256); of more a greedy choice


def in_turn(state: State, policy: Policy) -> tuple[str, ...]:
    """Return the models that are waited for and not loaded, the one whose turn it is first."""
    first: dict[str, float] = {}
    for each in state.waiting:
        model = state.models[each.model]
        if model.phase in {Phase.OUT, Phase.UNPLANNED}:
            turn = each.since - model.priority * policy.priority_s
            first[each.model] = min(turn, first.get(each.model, turn))
    for name, model in state.models.items():
        if model.asked_for and model.phase in {Phase.OUT, Phase.UNPLANNED}:
            first.setdefault(name, model.used_at - model.priority * policy.priority_s)
    # room is being made for that one
    made_for = None if state.yielding is None else state.yielding.to
    return tuple(sorted(first, key=lambda name: (name != made_for, first[name], name)))


def waited_s(state: State, name: str, now: float) -> float:
    return max((now - each.since for each in state.waits_for(name)), default=0.0)


def fits(needs: Bytes, held: Bytes, capacity: Bytes) -> bool:
    return not lacking(needs, held, capacity)


def lacking(needs: Bytes, held: Bytes, capacity: Bytes) -> dict[str, int]:
    """Return the bytes that are missing, by place."""
    missing = {
        place: n_bytes + held.get(place, 0) - capacity.get(place, 0)
        for place, n_bytes in needs.items()
        if n_bytes
    }
    return {place: n_bytes for place, n_bytes in missing.items() if n_bytes > 0}


def lacking_beside_pinned(state: State, needs: Bytes) -> dict[str, int]:
    """Return the bytes that are missing once everything goes that may, by place."""
    return lacking(needs, _held_by_pinned(state), state.capacity)


def can_ever_fit(state: State, needs: Bytes) -> bool:
    """Tell if it would fit beside the pinned models if others gave back what they have taken."""
    return fits(needs, _held_by_pinned(state), {**state.capacity, **state.most})


def _held_by_pinned(state: State) -> dict[str, int]:
    return state.held(STAYING, but_not={name for name, model in state.models.items() if not model.pinned})


def is_short(state: State) -> bool:
    """Tell if somebody waits for memory that others have taken."""
    return any(state.models[each.model].short_since is not None for each in state.waiting)


def free_for(state: State, needs: Bytes) -> dict[str, int]:
    """Return what is free where the model takes something."""
    held = state.held()
    return {place: max(0, state.capacity.get(place, 0) - held.get(place, 0)) for place in needs}


def does_not_fit(state: State, name: str) -> str:
    """Say why the model is refused, although everything goes that may."""
    needs = state.models[name].needs
    pinned = [other for other, model in state.models.items() if model.pinned and model.phase in STAYING]
    missing = lacking_beside_pinned(state, needs)
    place, n_bytes = max(missing.items(), key=lambda item: (item[1], item[0]))
    beside = f" beside {', '.join(sorted(pinned))}, which may not go" if pinned else ""
    now = " now: others have taken it" if can_ever_fit(state, needs) else ""
    if is_group(place):
        return f"{name} may not run{beside}: {state.capacity[place]} of the {place} may run at once"
    return (
        f"{name} takes {format_bytes(needs[place])} of {place}, "
        f"{format_bytes(n_bytes)} more than there is{beside}{now}"
    )


def leaves_room(state: State, needs: Bytes, blocked: str | None, now: float, policy: Policy) -> bool:
    """Tell if the model may start before another that came first and has to wait."""
    if blocked is None:
        return True
    yielding = () if state.yielding is None else state.yielding.models
    after = state.held(STAYING, but_not=yielding)
    for place, n_bytes in state.models[blocked].needs.items():
        after[place] = after.get(place, 0) + n_bytes
    if fits(needs, after, state.capacity):
        return True
    # It takes memory that the first one needs. As long as that one only waits for busy models it loses
    # nothing; but room that was made for it is its own.
    coming = any(model.phase not in STAYING for model in state.models.values() if model.phase in HOLDING)
    return not coming and waited_s(state, blocked, now) < policy.patience_s


def may_shrink(state: State, name: str, policy: Policy) -> bool:
    """Tell if it is worth asking for a plan within what is free now, before others have to go."""
    model = state.models[name]
    missing = lacking(model.needs, state.held(STAYING), state.capacity)
    return (
        model.can_shrink
        and model.n_asked < policy.most_asked
        # room that is being made is waited for, and what was asked once has its answer
        and not is_coming_back(state)
        and model.asked_within != free_for(state, model.needs)
        and bool(missing)
        and not any(map(is_group, missing))
    )


def use_now(model: Model, now: float, policy: Policy) -> float:
    """Return the model's requests so far, each halved for every half-life since."""
    return float(model.use * 0.5 ** (max(0.0, now - model.used_at) / policy.half_life_s))


def keeping(model: Model, now: float, policy: Policy) -> float:
    """Return what it costs to unload the model: the seconds of its reload, by how soon it will be needed.

    A model that was used lately, or often, is needed soon.
    """
    recent = 1.0 / (1.0 + max(0.0, now - model.used_at))
    often = use_now(model, now, policy) / policy.half_life_s
    return max(0.1, model.load_s) * (recent + often)


def make_room(
    state: State, needs: Bytes, now: float, policy: Policy, candidates: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the cheapest set of candidates without which `needs` fits; None if there is none.

    What is on its way out already counts as gone.
    """
    held = state.held(STAYING)
    missing = lacking(needs, held, state.capacity)
    if not missing:
        return ()
    # one that frees nothing where something is missing is in no cheapest set
    useful = [name for name in candidates if any(state.models[name].needs.get(place) for place in missing)]
    cost = {name: keeping(state.models[name], now, policy) for name in useful}
    if len(useful) > _EXHAUSTIVE:
        return _greedy(state, missing, cost)
    best: tuple[float, int, tuple[str, ...]] | None = None
    for size in range(1, len(useful) + 1):
        for chosen in combinations(sorted(useful), size):
            if _frees(state, chosen, missing):
                taken = sum(sum(state.models[name].needs.values()) for name in chosen)
                key = (sum(cost[name] for name in chosen), taken, chosen)
                best = key if best is None else min(best, key)
    return None if best is None else best[2]


def _frees(state: State, chosen: Iterable[str], missing: Bytes) -> bool:
    chosen = tuple(chosen)
    return all(
        sum(state.models[name].needs.get(place, 0) for name in chosen) >= n_bytes
        for place, n_bytes in missing.items()
    )


def _greedy(state: State, missing: Bytes, cost: dict[str, float]) -> tuple[str, ...] | None:
    """Take the cheapest by what they free of what is missing, then leave out who was not needed."""

    def price(name: str) -> float:
        freed = sum(min(state.models[name].needs.get(place, 0), n) / n for place, n in missing.items())
        return cost[name] / freed

    chosen: list[str] = []
    for name in sorted(cost, key=lambda name: (price(name), name)):
        chosen.append(name)
        if _frees(state, chosen, missing):
            break
    else:
        return None
    for name in sorted(chosen, key=lambda name: -cost[name]):
        without = [other for other in chosen if other != name]
        if _frees(state, without, missing):
            chosen = without
    return tuple(sorted(chosen))


def is_coming_back(state: State) -> bool:
    return any(model.phase in GOING for model in state.models.values())
