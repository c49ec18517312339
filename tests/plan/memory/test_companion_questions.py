"""A draft model as llama-server loads it with the model."""

from __future__ import annotations

import pytest

from launcher.plan.companions import Companions, DraftRequest
from launcher.plan.memory.companion_questions import draft_question, needs_main_context
from launcher.plan.oracle import Question
from tests.builders import build_header
from tests.plan.memory.companion_files import draft, file_of, planned, rows_of
from tests.plan.shapes import cards, machine


@pytest.mark.parametrize(
    ("draft_request", "names", "split"),
    [
        (DraftRequest(path="d"), ("CUDA0", "CUDA1"), (5.0, 8.0)),
        (DraftRequest(path="d", devices=("CUDA1",)), ("CUDA1",), (5.0,)),
        (DraftRequest(path="d", devices=()), (), ()),
    ],
)
def test_a_draft_model_takes_over_the_split(
    draft_request: DraftRequest, names: tuple[str, ...], split: tuple[float, ...]
) -> None:
    devices = cards(1000, 1000, 1000)
    main = Question(
        model="m", devices=devices[:2], ctx_size=4096, n_parallel=2, tensor_split=(5.0, 8.0), n_gpu_layers=13, n_draft=3
    )  # fmt: skip
    companion = draft(draft_request).draft
    assert companion is not None
    question = draft_question(companion, main, devices, ())
    assert tuple(each.id for each in question.devices) == names
    assert question.tensor_split == split
    assert (question.n_gpu_layers, question.n_draft, question.ctx_size, question.n_parallel) == (
        None,
        0,
        4096,
        2,
    )


def test_a_split_by_free_memory_sees_what_the_model_left() -> None:
    devices = cards(1000, 1000)
    main = Question(model="m", devices=devices[:1], ctx_size=4096, tensor_split=(13.0,))
    companion = draft(DraftRequest(path="d", devices=("CUDA0", "CUDA1"))).draft
    assert companion is not None
    ledger = planned(machine(*devices), Companions()).ledger
    question = draft_question(companion, main, devices, ledger)
    assert question.tensor_split == ()
    free = [each.free_bytes for each in question.devices]
    assert (
        free[0]
        == (devices[0].free_bytes or 0)
        - rows_of(planned(machine(*devices), Companions()))["CUDA0"].used_bytes
    )
    assert free[1] == devices[1].free_bytes


@pytest.mark.parametrize(
    ("types", "architecture", "expected"),
    [
        ((), "llama", False),
        (("draft-simple",), "llama", False),
        (("draft-mtp",), "llama", True),
        ((), "dflash", True),
    ],
)
def test_drafts_that_need_the_main_context(types: tuple[str, ...], architecture: str, expected: bool) -> None:
    assert (
        needs_main_context(types, file_of(build_header({"general.architecture": architecture}))) is expected
    )
