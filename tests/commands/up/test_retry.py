"""A plan that runs out of memory is planned again, bounded, explained and remembered: with a planner and a start
that do what the test says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.claims import claim_rows, driver_of, without_reserved
from launcher.commands.here import here_with
from launcher.commands.up.retry import Launch, launch_or_rescue
from launcher.deployment import history
from launcher.deployment.history import HistoryEntry, Identity, RescueNote, plan_key
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.engine.log.cause import Cause, CauseKind
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, RAM
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Workload
from launcher.progress import Step
from launcher.units import GIB, MIB
from tests.deployment.recorded import a_deployment
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

SHAPE = model("qwen3moe")
WISH = Workload(ctx_size=131072, n_parallel=16)
BOX = machine(*cards(4096), ram_bytes=64 * GIB)


def planned() -> Plan:
    plan = make_plan(SHAPE, "Q4_0", BOX, WISH)
    assert isinstance(plan, Plan)
    return plan


def out_of_memory(plan: Plan) -> Cause:
    """The KV cache of the first card did not fit beside its weights."""
    row = plan.ledger[0]
    return Cause(
        kind=CauseKind.OUT_OF_MEMORY,
        sentence="llama-server ran out of memory",
        where=row.where,
        need_bytes=row.kv.n_bytes,
        had_bytes=row.weights.n_bytes,
    )


class Story:
    """Fails the first `n_failures` starts; what was tried and said is kept."""

    def __init__(self, folder: Path, n_failures: int, cause: Cause | None = None) -> None:
        self.tried: list[Plan] = []
        self.notes: list[RescueNote] = []
        self.said: list[str] = []
        self.file = folder / "history.jsonl"
        self._left = n_failures
        self._cause = cause

    def start(self, plan: Plan, note: RescueNote) -> Deployment:
        self.tried.append(plan)
        self.notes.append(note)
        ready = len(self.tried) > self._left
        cause = None if ready else self._cause or out_of_memory(plan)
        identity = Identity(plan=plan_key(plan), engine="e", driver=None)
        entry = HistoryEntry(
            at="now",
            name="m",
            model_id="m",
            identity=identity,
            outcome=history.outcome_of(cause),
            load_s=1.0,
            step=note.step,
            saves=note.saves,
            correction=note.correction,
        )
        history.append_entry(self.file, entry)
        if cause is not None:
            raise LoadFailed("m", cause)
        return a_deployment("m")

    def run(self, *, retry: bool = True, consent: bool = False) -> Deployment:
        def replan(box: Machine, wish: Workload) -> Plan | Shortfall:
            return make_plan(SHAPE, "Q4_0", box, wish)

        def note(step: Step) -> None:
            self.said.append(step.text)

        launch = Launch(
            plan=planned(),
            machine=BOX,
            workload=WISH,
            replan=replan,
            start=self.start,
            engine_sha256="e",
            retry=retry,
        )
        here = here_with(note, consent=lambda _question: consent)
        return launch_or_rescue(
            replace(here, settings=replace(here.settings, state_dir=self.file.parent)), launch
        )


def test_one_that_starts_is_left_alone(tmp_path: Path) -> None:
    story = Story(tmp_path, 0)
    assert story.run().name == "m"
    assert (len(story.tried), story.said) == (1, [])


def test_it_is_saved_explained_and_remembered(tmp_path: Path) -> None:
    story = Story(tmp_path, 1)
    story.run()
    assert len(story.tried) == 2
    assert story.tried[1] != story.tried[0]
    [said] = story.said
    assert said.startswith("llama-server ran out of memory; trying again: ")
    assert said.endswith("(1 of 3)")
    assert story.tried[1].reasons[-1].startswith("llama-server ran out of memory: ")

    again = Story(tmp_path, 0)
    again.run()
    assert again.tried[0].ubatch_size == story.tried[1].ubatch_size
    assert replace(again.tried[0], reasons=()) == replace(story.tried[1], reasons=())
    assert again.said[0].startswith("as it was saved before: ")


def test_three_steps_and_no_more(tmp_path: Path) -> None:
    story = Story(tmp_path, 99)
    with pytest.raises(LoadFailed):
        story.run(consent=True)
    assert 2 <= len(story.tried) <= 4


@pytest.mark.parametrize("cause", [None, Cause(kind=CauseKind.BAD_FILE, sentence="it is cut")])
def test_what_a_smaller_plan_does_not_cure_is_not_tried_again(tmp_path: Path, cause: Cause | None) -> None:
    story = Story(tmp_path, 1, cause)
    with pytest.raises(LoadFailed):
        story.run(retry=cause is not None)
    assert len(story.tried) == 1


def test_a_context_is_never_shortened_unasked(tmp_path: Path) -> None:
    story = Story(tmp_path, 99)
    with pytest.raises(LoadFailed):
        story.run(consent=False)
    assert {plan.ctx_size for plan in story.tried} == {131072}


def test_promises_are_by_uuid_and_not_free() -> None:
    box = replace(BOX, devices=tuple(replace(device, uuid="GPU-7", driver="570") for device in BOX.devices))
    rows = claim_rows(planned(), box)
    assert set(rows) == {"GPU-7", RAM}
    soft = replace(
        box, devices=tuple(replace(device, name="llvmpipe (LLVM 15.0.6)") for device in box.devices)
    )
    assert claim_rows(planned(), soft) == {RAM: sum(rows.values())}
    less = without_reserved(box, {"GPU-7": 1024 * MIB, RAM: GIB})
    assert less.devices[0].free_bytes == (box.devices[0].free_bytes or 0) - 1024 * MIB
    assert less.ram_available_bytes == box.ram_available_bytes - GIB
    assert without_reserved(box, {"GPU-8": 1}) == box
    assert driver_of(box) == "570"
    assert HOST not in rows
