"""What is tried when a plan ran out of memory: cheapest first, never above what was seen not to fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.rope import Rope
from launcher.plan.search.rescue import (
    MOST_STEPS,
    Correction,
    ExhaustedRow,
    Replan,
    Rescue,
    describe_difference,
    exhausted_row,
    find_rescues,
    with_correction,
    with_less_free,
)
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

REQUEST = Workload(ctx_size=8192, rope=Rope(trained=8192))
LONG = Workload(ctx_size=262144, rope=Rope(trained=262144))
"""The shapes have few layers: a long context makes their caches the larger part."""


def planner(shape: ModelFile) -> Replan:
    def replan(box: Machine, request: Workload) -> Plan | Shortfall:
        return make_plan(shape, "Q4_0", box, request)

    return replan


def planned(shape: ModelFile, box: Machine, request: Workload = REQUEST) -> Plan:
    plan = make_plan(shape, "Q4_0", box, request)
    assert isinstance(plan, Plan)
    return plan


def offered(
    shape: ModelFile,
    box: Machine,
    exhausted: ExhaustedRow,
    request: Workload = REQUEST,
    before: Correction | None = None,
) -> list[Rescue]:
    plan = planned(shape, box, request)
    return list(find_rescues(plan, exhausted, box, request, before or Correction(), planner(shape)))


def full_card(shape: ModelFile, box: Machine, request: Workload = REQUEST) -> tuple[Plan, int]:
    """A plan, and what its first card holds beyond the backend's own overhead."""
    plan = planned(shape, box, request)
    row = plan.ledger[0]
    return plan, row.used_bytes - row.overhead.n_bytes - row.overhead.band_bytes


def test_every_step_stays_below_what_was_seen_not_to_fit() -> None:
    shape, box = model("qwen3moe"), machine(*cards(4096), ram_bytes=64 * GIB)
    plan, buffers = full_card(shape, box)
    found = offered(
        shape, box, ExhaustedRow(where="CUDA0", need_bytes=buffers // 10, had_bytes=buffers * 8 // 10)
    )
    assert found
    for step in found:
        after = next((row for row in step.plan.ledger if row.where == "CUDA0"), None)
        seen = buffers * 9 // 10 + plan.ledger[0].overhead.n_bytes + plan.ledger[0].overhead.band_bytes
        assert after is None or after.used_bytes < seen
        assert step.sentence


def test_a_context_is_shortened_last_and_only_with_consent() -> None:
    shape, box = model("llama"), machine(ram_bytes=4 * GIB)
    found = offered(shape, box, ExhaustedRow(where=HOST), LONG)
    consent = [step.needs_consent for step in found]
    assert consent == sorted(consent)
    assert consent[-1]
    for step in found:
        assert step.needs_consent == (step.plan.ctx_size < 262144)


def test_whole_layers_leave_the_card_only_after_the_cache_was_quantised() -> None:
    shape, box = model("llama"), machine(*cards(8192), ram_bytes=64 * GIB)
    plan, buffers = full_card(shape, box, LONG)
    kv = plan.ledger[0].kv.n_bytes
    found = offered(shape, box, ExhaustedRow(where="CUDA0", need_bytes=kv, had_bytes=buffers - kv), LONG)
    assert found[0].plan.placement == plan.placement
    assert found[0].sentence.startswith("KV cache q8_0 instead of f16") or found[0].plan.ubatch_size == 256
    whole = [step.plan.placement.n_gpu_layers == plan.placement.n_gpu_layers for step in found]
    unasked = [kept for kept, step in zip(whole, found, strict=True) if not step.needs_consent]
    assert unasked == sorted(unasked, reverse=True)


def test_a_cache_type_that_was_asked_for_is_kept() -> None:
    shape, box = model("llama"), machine(ram_bytes=4 * GIB)
    request = replace(REQUEST, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    for step in offered(shape, box, ExhaustedRow(where=HOST), request):
        assert step.plan.cache_type_k is CacheType.F16


def test_a_row_that_is_not_in_the_plan_cannot_be_saved() -> None:
    shape, box = model("llama"), machine(ram_bytes=4 * GIB)
    assert offered(shape, box, ExhaustedRow(where="RPC0")) == []


def test_without_a_name_the_fullest_card_is_meant() -> None:
    plan = planned(model("qwen3moe"), machine(*cards(4096, 1024), ram_bytes=64 * GIB))
    row = exhausted_row(plan, None)
    assert row is not None
    assert row.free_bytes == min(each.free_bytes for each in plan.ledger if each.where != HOST)


def test_corrections_add_up_and_apply() -> None:
    box = machine(*cards(4096), ram_bytes=64 * GIB)
    less = with_less_free(box, {"CUDA0": 1024 * MIB, HOST: 10 * GIB})
    assert less.devices[0].free_bytes == (box.devices[0].free_bytes or 0) - 1024 * MIB
    assert less.ram_available_bytes == box.ram_available_bytes - 10 * GIB
    request = with_correction(REQUEST, Correction(ubatch_size=128, cache_type=CacheType.Q8_0))
    assert (request.ubatch_size, request.cache_type_k, request.cache_type_v) == (
        128,
        CacheType.Q8_0,
        CacheType.Q8_0,
    )
    assert with_correction(replace(REQUEST, ubatch_size=64), Correction(ubatch_size=128)).ubatch_size == 64
    assert MOST_STEPS == 3


def test_what_changed_is_said() -> None:
    plan = planned(model("qwen3moe"), machine(*cards(4096), ram_bytes=64 * GIB))
    other = replace(plan, ubatch_size=256, cache_type_k=CacheType.Q8_0, ctx_size=4096, cache_ram_bytes=0)
    said = describe_difference(plan, other)
    assert f"micro-batch 256 instead of {plan.ubatch_size}" in said
    assert "KV cache q8_0 instead of f16" in said
    assert "context 4096 instead of 8192" in said
    assert describe_difference(plan, plan) == "the same settings on less memory"


@pytest.mark.parametrize("need", [None, 100 * MIB, 40 * GIB])
def test_whatever_was_asked_for_it_ends(need: int | None) -> None:
    shape, box = model("qwen3moe"), machine(*cards(4096), ram_bytes=64 * GIB)
    assert len(offered(shape, box, ExhaustedRow(where="CUDA0", need_bytes=need))) < 10
