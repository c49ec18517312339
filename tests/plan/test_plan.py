"""Whole plans: what is chosen, refused and said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, FlashAttention, LoadMode
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.rope import Rope
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, device, machine, model

H100 = tuple(device(index, 79 * GIB) for index in range(8))
H200 = tuple(device(index, 139 * GIB) for index in range(8))
KIMI = ("deepseek2", "kimi-k2.5")
LONG = Rope(trained=262144)


def planned(outcome: Plan | Shortfall) -> Plan:
    assert isinstance(outcome, Plan), outcome.reasons
    return outcome


def short(outcome: Plan | Shortfall) -> Shortfall:
    assert isinstance(outcome, Shortfall)
    return outcome


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["qwen3moe", "deepseek2", "llama", "gemma3"]),
    st.lists(st.integers(min_value=0, max_value=600), max_size=3),
    st.integers(min_value=600, max_value=4096),
    st.integers(min_value=1, max_value=4),
)
def test_a_plan_is_within_every_budget(name: str, free_mib: list[int], ram_mib: int, slots: int) -> None:
    box = machine(*cards(*free_mib), ram_bytes=ram_mib * MIB)
    outcome = make_plan(model(name), "Q4_0", box, Workload(ctx_size=2048, n_parallel=slots))
    if isinstance(outcome, Plan):
        assert all(row.free_bytes >= 0 for row in outcome.ledger)
    else:
        assert outcome.missing_bytes > 0
        assert min(row.free_bytes for row in outcome.ledger) == -outcome.missing_bytes


def test_kimi_on_eight_h200_is_all_on_devices() -> None:
    plan = planned(
        make_plan(model(*KIMI), "Q4_0", machine(*H200, ram_bytes=2048 * GIB), Workload(ctx_size=131072))
    )
    assert plan.placement.n_gpu_layers == 62
    assert plan.placement.host_expert_blocks == ()
    assert plan.load_mode is LoadMode.MMAP


def test_kimi_on_two_h100_does_not_fit_and_says_by_how_much() -> None:
    """A popular article runs it there."""
    outcome = short(make_plan(model(*KIMI), "Q4_0", machine(*H100[:2], ram_bytes=256 * GIB), Workload()))
    assert outcome.where == HOST
    assert 140 * GIB < outcome.missing_bytes < 200 * GIB
    assert outcome.reasons[0].startswith("Q4_0 does not fit: RAM needs ")


def test_kimi_on_one_card_and_much_ram_keeps_experts_on_the_host() -> None:
    plan = planned(
        make_plan(
            model(*KIMI), "Q4_0", machine(device(0, 24 * GIB), ram_bytes=768 * GIB), Workload(ctx_size=32768)
        )
    )
    assert plan.placement.host_expert_blocks == tuple(range(2, 61))
    assert [block for block, _ in plan.placement.host_expert_parts] == [1]
    assert plan.load_mode is LoadMode.NONE
    assert plan.ledger[0].kv.n_bytes == 2196 * MIB


def test_context_that_was_asked_for_is_never_cut() -> None:
    box = machine(ram_bytes=2 * GIB)
    outcome = short(make_plan(model(), "Q4_0", box, Workload(ctx_size=262144, rope=LONG)))
    assert outcome.ctx_size == 262144
    assert outcome.hints
    for hint in outcome.hints:
        words = hint.split()
        asked = dict(zip(words[::2], words[1::2], strict=True))
        again = Workload(
            ctx_size=int(asked.get("-c", 262144)),
            ubatch_size=int(asked.get("-ub", 512)),
            cache_type_k=CacheType(asked["-ctk"]) if "-ctk" in asked else None,
            cache_type_v=CacheType(asked["-ctv"]) if "-ctv" in asked else None,
            rope=LONG,
        )
        planned(make_plan(model(), "Q4_0", box, again))


def test_a_profiles_context_is_a_requirement_too() -> None:
    outcome = make_plan(model(), "Q4_0", machine(ram_bytes=2 * GIB), Workload(rope=LONG), default_ctx=262144)
    assert short(outcome).ctx_size == 262144


def test_a_context_nobody_asked_for_gives_way_with_a_reason() -> None:
    box = machine(ram_bytes=1216 * MIB)
    roomy = planned(make_plan(model(), "Q4_0", machine(), Workload()))
    tight = planned(make_plan(model(), "Q4_0", box, Workload()))
    assert roomy.ctx_size == 8192
    assert tight.ctx_size == 4096
    assert any("nobody asked for one, and 8192 does not fit" in reason for reason in tight.reasons)


def test_cache_types_of_mla_are_equal() -> None:
    plan = planned(make_plan(model("deepseek2"), "q", machine(), Workload(cache_type_k=CacheType.Q8_0)))
    assert (plan.cache_type_k, plan.cache_type_v) == (CacheType.Q8_0, CacheType.Q8_0)
    with pytest.raises(UsageError, match="one latent for both"):
        make_plan(
            model("deepseek2"),
            "q",
            machine(),
            Workload(cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.F16),
        )


def test_a_quantised_v_switches_flash_attention_on() -> None:
    plan = planned(make_plan(model(), "q", machine(), Workload(cache_type_v=CacheType.Q8_0)))
    assert plan.flash_attn is FlashAttention.ON
    with pytest.raises(UsageError, match="needs flash attention"):
        make_plan(
            model(), "q", machine(), Workload(cache_type_v=CacheType.Q8_0, flash_attn=FlashAttention.OFF)
        )


def test_slots_are_at_least_one() -> None:
    with pytest.raises(UsageError, match="0 slots"):
        make_plan(model(), "q", machine(), Workload(n_parallel=0))


def test_weights_beyond_ram_do_not_fit() -> None:
    box = machine(ram_bytes=64 * GIB)
    assert short(make_plan(model(*KIMI), "q", box, Workload(ctx_size=4096))).where == HOST


@pytest.mark.parametrize("mode", list(LoadMode))
def test_a_load_mode_that_was_asked_for_is_kept(mode: LoadMode) -> None:
    assert planned(make_plan(model(), "q", machine(), Workload(load_mode=mode))).load_mode is mode


def test_files_larger_than_ram_are_not_mapped_on_their_way_to_devices() -> None:
    plan = planned(make_plan(model(*KIMI), "q", machine(*H200, ram_bytes=64 * GIB), Workload()))
    assert plan.load_mode is LoadMode.NONE


def test_the_prompt_cache_is_planned_not_taken() -> None:
    """llama-server takes 8 GiB for any model."""
    small = planned(make_plan(model("llama"), "q", machine(), Workload(ctx_size=4096)))
    large = planned(
        make_plan(model("llama", "llama-3.3-70b"), "q", machine(ram_bytes=96 * GIB), Workload(ctx_size=32768))
    )
    assert small.cache_ram_bytes == 0
    left = large.ledger[-1].free_bytes + large.cache_ram_bytes
    assert large.cache_ram_bytes == left // 2 // MIB * MIB
    asked = planned(make_plan(model("llama"), "q", machine(), Workload(cache_ram_bytes=100 * MIB)))
    assert asked.cache_ram_bytes == 100 * MIB
    assert asked.ledger[-1].cache.n_bytes == 100 * MIB


def test_a_prompt_cache_beyond_ram_does_not_fit() -> None:
    outcome = short(make_plan(model(), "q", machine(), Workload(ctx_size=4096, cache_ram_bytes=100 * GIB)))
    assert outcome.hints[0] == "--cache-ram 0"


def test_unified_memory_is_counted_once() -> None:
    gpu = device(0, 96 * GIB, backend=Backend.METAL, shares_host_memory=True)
    box = machine(gpu, ram_bytes=128 * GIB)
    plan = planned(make_plan(model("llama", "llama-3.3-70b"), "q", box, Workload(ctx_size=32768)))
    used = sum(row.used_bytes for row in plan.ledger)
    assert used <= 120 * GIB
    assert plan.ledger[-1].budget_bytes == 120 * GIB - plan.ledger[0].used_bytes
    assert plan.load_mode is LoadMode.MMAP


def test_two_pools_in_one_memory_do_not_hold_twice_as_much() -> None:
    gpu = device(0, 30 * GIB, backend=Backend.METAL, shares_host_memory=True)
    short(
        make_plan(
            model("llama", "llama-3.3-70b"), "q", machine(gpu, ram_bytes=60 * GIB), Workload(ctx_size=8192)
        )
    )


def test_a_carve_out_is_not_the_hosts() -> None:
    """Strix Halo with 96 GiB set aside in the firmware: the system sees the other 32."""
    gpu = device(0, 110 * GIB, backend=Backend.VULKAN, shares_host_memory=True)
    box = machine(replace(gpu, carve_out_bytes=96 * GIB), ram_bytes=32 * GIB)
    plan = planned(make_plan(model("llama", "llama-3.3-70b"), "q", box, Workload(ctx_size=32768)))
    assert plan.placement.n_gpu_layers == 81
    assert plan.ledger[-1].budget_bytes == 30 * GIB


def test_a_cgroup_limit_sets_the_reserve() -> None:
    box = replace(machine(ram_bytes=64 * GIB), ram_limit_bytes=2 * GIB, ram_available_bytes=2 * GIB)
    plan = planned(make_plan(model(), "q", box, Workload(ctx_size=4096)))
    assert plan.ledger[-1].budget_bytes == 2 * GIB - 256 * MIB


def test_every_plan_explains_itself() -> None:
    plan = planned(make_plan(model(), "q", machine(*cards(250, 120)), Workload(ctx_size=2048)))
    text = "\n".join(plan.reasons)
    for word in ("experts of", "context 2048", "load mode", "prompt cache", "threads", "RAM budget", "CUDA0"):
        assert word in text
