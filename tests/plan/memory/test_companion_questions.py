"""A draft model as llama-server loads it with the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Device
from launcher.plan.companions import Companions, DraftRequest
from launcher.plan.memory.companion_questions import draft_question, needs_main_context
from launcher.plan.modes import SplitMode
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


def test_devices_are_as_the_machine_has_them_unless_the_split_is_by_what_is_left() -> None:
    devices = cards(1000, 1000)
    main = Question(model="m", devices=devices, ctx_size=4096, tensor_split=(5.0, 8.0))
    ledger = planned(machine(*devices), Companions()).ledger

    def used(request: DraftRequest, question: Question) -> tuple[Device, ...]:
        companion = draft(request).draft
        assert companion is not None
        return draft_question(companion, question, devices, ledger).devices

    assert used(DraftRequest(path="d"), main) == devices
    assert used(DraftRequest(path="d", devices=("CUDA0",)), replace(main, tensor_split=())) == devices[:1]
    by_free = used(DraftRequest(path="d"), replace(main, tensor_split=()))
    assert (by_free[0].free_bytes or 0) < (devices[0].free_bytes or 0)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (None, SplitMode.TENSOR),  # the model's own
        (("CUDA0",), SplitMode.LAYER),
        (("CUDA0", "CUDA1"), SplitMode.TENSOR),
        ((), SplitMode.TENSOR),
    ],
)
@pytest.mark.parametrize("n_devices", [1, 2])
def test_one_device_of_a_drafts_own_is_not_divided(
    devices: tuple[str, ...] | None, expected: SplitMode, n_devices: int
) -> None:
    there = cards(1000, 1000)
    main = Question(model="m", devices=there[:n_devices], ctx_size=4096, split_mode=SplitMode.TENSOR)
    companion = draft(DraftRequest(path="d", devices=devices)).draft
    assert companion is not None
    assert draft_question(companion, main, there, ()).split_mode is expected
