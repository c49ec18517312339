"""What is tried when a plan ran out of memory: cheapest first, never above what was seen not to fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, Amount, Basis
from launcher.plan.modes import CacheType, FlashAttention
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
from tests.plan.planned import ledger_row, make_plan, small_plan
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
    assert "KV cache q8_0/f16 instead of f16" in said
    assert "context 4096 instead of 8192" in said
    assert describe_difference(plan, plan) == "the same settings on less memory"


@pytest.mark.parametrize("need", [None, 100 * MIB, 40 * GIB])
def test_whatever_was_asked_for_it_ends(need: int | None) -> None:
    shape, box = model("qwen3moe"), machine(*cards(4096), ram_bytes=64 * GIB)
    assert len(offered(shape, box, ExhaustedRow(where="CUDA0", need_bytes=need))) < 10


# Made by hand: a card with 1000 MiB of buffers and up to 100 of overhead, in a budget of 1200.
OVERHEAD = Amount(n_bytes=60 * MIB, basis=Basis.ESTIMATED, band_bytes=40 * MIB)


def failed_plan(buffers_mib: int = 1000, budget_mib: int = 1200) -> Plan:
    card = replace(
        ledger_row("CUDA0", weights=buffers_mib * MIB), overhead=OVERHEAD, budget_bytes=budget_mib * MIB
    )
    plan = small_plan("CUDA0", ledger=(card, ledger_row(HOST, weights=MIB)))
    return replace(plan, ctx_size=16384)


def same_with(failed: Plan) -> Replan:
    """Plan what was asked for, without moving anything."""

    def replan(box: Machine, request: Workload) -> Plan:
        return replace(
            failed,
            threads=3,  # not the plan that failed
            ubatch_size=request.ubatch_size or failed.ubatch_size,
            cache_type_k=request.cache_type_k or failed.cache_type_k,
            cache_type_v=request.cache_type_v or failed.cache_type_v,
            ctx_size=request.ctx_size or failed.ctx_size,
        )

    return replan


def rescues(
    failed: Plan,
    exhausted: ExhaustedRow,
    request: Workload | None = None,
    before: Correction | None = None,
    replan: Replan | None = None,
) -> list[Rescue]:
    return list(
        find_rescues(
            failed,
            exhausted,
            machine(*cards(4096)),
            request or Workload(),
            before or Correction(),
            replan or same_with(failed),
        )
    )


@pytest.mark.parametrize(
    ("exhausted", "buffers_mib", "less_mib"),
    [
        (ExhaustedRow(where="CUDA0"), 1000, 1200 - 990),  # nothing is known: a tenth less than planned
        (ExhaustedRow(where="CUDA0", need_bytes=500 * MIB, had_bytes=300 * MIB), 1000, 1200 - (900 - 32)),
        (ExhaustedRow(where="CUDA0", need_bytes=800 * MIB), 1000, 1200 - (900 - 32)),
        (ExhaustedRow(where="CUDA0", need_bytes=5000 * MIB), 1000, 1200 - (1100 - 32)),  # than was planned
        (ExhaustedRow(where="CUDA0", need_bytes=3900 * MIB), 4900, 1200 - (4000 - 80) + 3800),  # 2 %
        (ExhaustedRow(where="CUDA0", need_bytes=50 * MIB), -90, 1200),  # 10 MiB, less than the slack
    ],
)
def test_the_row_is_planned_below_what_did_not_fit(
    exhausted: ExhaustedRow, buffers_mib: int, less_mib: int
) -> None:
    budget = 1200 if buffers_mib <= 1000 else 5000
    first = rescues(failed_plan(buffers_mib, budget), exhausted)[0]
    assert first.correction.less == (("CUDA0", less_mib * MIB),)


def test_what_was_taken_off_before_stays_off() -> None:
    before = Correction(less=(("CUDA0", 5), (HOST, 7)))
    first = rescues(failed_plan(), ExhaustedRow(where="CUDA0"), before=before)[0]
    assert dict(first.correction.less) == {"CUDA0": 5 + 210 * MIB, HOST: 7}
    seen: list[Machine] = []

    def replan(box: Machine, request: Workload) -> Plan:
        seen.append(box)
        return failed_plan()

    assert rescues(failed_plan(), ExhaustedRow(where="CUDA0"), before=before, replan=replan) == []
    full = machine(*cards(4096))
    assert seen[0].devices[0].free_bytes == (full.devices[0].free_bytes or 0) - 5 - 210 * MIB
    assert seen[0].ram_available_bytes == full.ram_available_bytes - 7


def corrections(found: list[Rescue]) -> list[tuple[int | None, CacheType | None, int | None]]:
    each = [step.correction for step in found]
    assert [step.needs_consent for step in found] == [one.ctx_size is not None for one in each]
    return [(one.ubatch_size, one.cache_type, one.ctx_size) for one in each]


ROW = ExhaustedRow(where="CUDA0")
LAST = [(None, CacheType.Q8_0, 8192), (None, CacheType.Q8_0, 4096)]


@pytest.mark.parametrize(
    ("failed", "request_", "expected"),
    [
        (
            failed_plan(),
            Workload(),
            [(256, None, None), (None, None, None), (None, CacheType.Q8_0, None), *LAST],
        ),
        (
            replace(failed_plan(), ubatch_size=100, ctx_size=8191),
            Workload(),
            [(64, None, None), (None, None, None), (None, CacheType.Q8_0, None)],
        ),
        (
            replace(failed_plan(), ubatch_size=64, ctx_size=8192),
            Workload(),
            [(None, None, None), (None, CacheType.Q8_0, None), (None, CacheType.Q8_0, 4096)],
        ),
        (
            replace(failed_plan(), ubatch_size=64, ctx_size=8192),
            Workload(cache_type_k=CacheType.F16),
            [(None, None, None), (None, None, 4096)],
        ),
        (
            replace(failed_plan(), ubatch_size=64, ctx_size=8192),
            Workload(cache_type_v=CacheType.F16),
            [(None, None, None), (None, None, 4096)],
        ),
        (
            replace(failed_plan(), ubatch_size=64, ctx_size=8192, flash_attn=FlashAttention.OFF),
            Workload(),
            [(None, None, None), (None, None, 4096)],
        ),
    ],
)
def test_the_cheapest_comes_first(
    failed: Plan, request_: Workload, expected: list[tuple[int | None, CacheType | None, int | None]]
) -> None:
    assert corrections(rescues(failed, ROW, request_)) == expected


def test_a_type_that_was_corrected_before_stays_with_a_shorter_context() -> None:
    before = Correction(cache_type=CacheType.Q4_0)
    failed = replace(failed_plan(), ubatch_size=64, ctx_size=8192)
    assert corrections(rescues(failed, ROW, before=before))[-1] == (None, CacheType.Q4_0, 4096)


def test_whole_layers_on_the_cpu_come_before_a_shorter_context_only() -> None:
    failed = failed_plan()

    def replan(box: Machine, request: Workload) -> Plan:
        plan = same_with(failed)(box, request)
        if request == Workload():
            return replace(plan, placement=replace(plan.placement, n_gpu_layers=1))
        return plan

    assert corrections(rescues(failed, ROW, replan=replan)) == [
        (256, None, None), (None, CacheType.Q8_0, None), (None, None, None), *LAST
    ]  # fmt: skip
    short = replace(failed, ctx_size=4096)
    assert corrections(rescues(short, ROW, replan=replan))[-1] == (None, None, None)


def test_a_smaller_micro_batch_that_moves_experts_as_well_is_passed_over() -> None:
    failed = failed_plan()

    def replan(box: Machine, request: Workload) -> Plan:
        plan = same_with(failed)(box, request)
        return replace(plan, placement=replace(plan.placement, host_expert_blocks=(0,)))

    assert corrections(rescues(failed, ROW, replan=replan))[0] == (None, None, None)


def test_only_ledger_and_reasons_may_not_tell_a_rescue_from_what_failed() -> None:
    failed = failed_plan()
    assert rescues(failed, ROW, replan=lambda *_: replace(failed, ledger=(), reasons=("x",))) == []


def test_the_row_that_ran_out() -> None:
    plan = failed_plan()
    other = replace(plan.ledger[0], where="CUDA1", budget_bytes=GIB)
    placement = replace(plan.placement, devices=("CUDA0", "CUDA1"))
    both = replace(plan, ledger=(plan.ledger[0], other, plan.ledger[-1]), placement=placement)
    assert exhausted_row(both, None) == other  # the fullest
    assert exhausted_row(both, "CUDA0") == plan.ledger[0]
    host = replace(plan, placement=replace(plan.placement, devices=()))
    assert exhausted_row(host, None) == plan.ledger[-1]
    assert exhausted_row(replace(host, ledger=()), None) is None


def test_less_is_taken_from_what_is_free_and_never_more_than_that() -> None:
    box = machine(*cards(0, 0, 0), ram_bytes=GIB)
    idle = replace(box.devices[1], free_bytes=None)
    box = replace(box, devices=(box.devices[0], idle, box.devices[2]))
    less = with_less_free(box, {"CUDA0": 5000 * MIB, "CUDA1": MIB, HOST: 2 * GIB})
    assert [each.free_bytes for each in less.devices] == [0, 1023 * MIB, 1024 * MIB]
    assert less.ram_available_bytes == 0
    assert with_less_free(box, {}) == box


def test_a_correction_never_undoes_what_was_asked_for() -> None:
    def corrected(request: Workload, **fields: object) -> Workload:
        return with_correction(request, Correction(**fields))  # type: ignore[arg-type]

    assert corrected(Workload(), ubatch_size=1024).ubatch_size == 512
    assert corrected(Workload(ubatch_size=2048), ubatch_size=1024).ubatch_size == 1024
    assert corrected(Workload(ubatch_size=2048)).ubatch_size == 2048
    typed = corrected(Workload(cache_type_k=CacheType.F16, ctx_size=5), cache_type=CacheType.Q8_0)
    assert (typed.cache_type_k, typed.cache_type_v, typed.ctx_size) == (CacheType.F16, CacheType.Q8_0, 5)
    typed = corrected(Workload(cache_type_v=CacheType.F16, ctx_size=5), cache_type=CacheType.Q8_0, ctx_size=3)
    assert (typed.cache_type_k, typed.cache_type_v, typed.ctx_size) == (CacheType.Q8_0, CacheType.F16, 3)


BEFORE = small_plan("CUDA0", "CUDA1")


def at(**fields: object) -> Plan:
    return replace(BEFORE, placement=replace(BEFORE.placement, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (replace(BEFORE, ubatch_size=256), "micro-batch 256 instead of 512"),
        (at(host_expert_blocks=(0, 1)), "the experts of 2 more layers on the host"),
        (at(devices=("CUDA1",)), "on CUDA1 instead of CUDA0 and CUDA1"),
        (at(devices=(), n_gpu_layers=0), "0 layers on devices instead of 4"),
        (at(n_gpu_layers=3, tensor_split=(1, 2)), "3 layers on devices instead of 4"),
        (at(tensor_split=(1, 3)), "layers split 1,3"),
        (replace(BEFORE, cache_type_k=CacheType.Q8_0), "KV cache q8_0/f16 instead of f16"),
        (replace(BEFORE, cache_type_v=CacheType.Q8_0), "KV cache f16/q8_0 instead of f16"),
        (
            replace(BEFORE, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0),
            "KV cache q8_0 instead of f16",
        ),
        (replace(BEFORE, ctx_size=256), "context 256 instead of 512"),
        (replace(BEFORE, cache_ram_bytes=GIB), "prompt cache 1.0 GiB instead of 0 B"),
        (
            replace(BEFORE, ubatch_size=256, ctx_size=256),
            "micro-batch 256 instead of 512, context 256 instead of 512",
        ),
        (BEFORE, "the same settings on less memory"),
    ],
)
def test_each_difference_has_its_words(after: Plan, text: str) -> None:
    assert describe_difference(BEFORE, after) == text


def test_experts_may_come_back() -> None:
    one = at(host_expert_blocks=(0,))
    assert describe_difference(one, BEFORE) == "the experts of 1 fewer layers on the host"


def test_what_the_whole_host_has_is_less_as_well() -> None:
    box = replace(machine(ram_bytes=4 * GIB), host_available_bytes=3 * GIB)
    assert with_less_free(box, {HOST: GIB}).host_available_bytes == 2 * GIB
    assert with_less_free(box, {HOST: 4 * GIB}).host_available_bytes == 0
    assert with_less_free(machine(), {HOST: GIB}).host_available_bytes is None
