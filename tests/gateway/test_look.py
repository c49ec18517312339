"""What a look changes, whatever happened while it looked."""

from __future__ import annotations

from dataclasses import replace

from launcher.gateway.admission.state import Model, Phase
from launcher.gateway.deployments import Running
from launcher.gateway.engine_http import Address
from launcher.gateway.look import Difference, compare, known_of

RUNS = Running(
    name="m", model_id="m", address=Address("127.0.0.1", 1), secret=None, is_ours=True, is_ready=True,
    needs={"ram": 1}, slots=1, ctx_size=None, size_bytes=1,
)  # fmt: skip
OUT, READY = Model(phase=Phase.OUT), Model(phase=Phase.READY, ready_at=1.0)
NOTHING = Difference(come=(), stay=(), gone=())


def difference(before: Model | None, now: Model | None, *found: Running) -> Difference:
    known = {} if before is None else {"m": before}
    models = {} if now is None else {"m": now}
    return compare(known_of(known), models, {each.name: each for each in found})


def test_what_somebody_else_started_comes_once_it_is_ready() -> None:
    for model in (None, OUT):
        assert difference(model, model, RUNS) == replace(NOTHING, come=(RUNS,))
        assert difference(model, model, replace(RUNS, is_ready=False)) == NOTHING


def test_what_is_known_stays_as_it_is_now_and_what_is_not_found_is_gone() -> None:
    moved = replace(RUNS, address=Address("127.0.0.1", 2))
    assert difference(READY, READY, moved) == replace(NOTHING, stay=(moved,))
    assert difference(READY, READY) == replace(NOTHING, gone=("m",))


def test_what_changed_during_the_look_is_left_alone() -> None:
    assert difference(OUT, READY) == NOTHING  # loaded meanwhile, and not there when the look began
    assert difference(READY, replace(READY, ready_at=2.0)) == NOTHING  # the same, started again
    assert difference(READY, OUT, RUNS) == NOTHING  # unloaded meanwhile
