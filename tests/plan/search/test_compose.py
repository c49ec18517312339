"""The load mode of a plan follows from where its weights are."""

from __future__ import annotations

from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, LoadMode, TensorOverride
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model


def planned(name: str, *free_mib: int, overrides: tuple[TensorOverride, ...] = ()) -> Plan:
    request = Workload(ctx_size=4096, overrides=overrides)
    plan = make_plan(model(name), "q", machine(*cards(*free_mib)), request)
    assert isinstance(plan, Plan)
    return plan


def test_weights_are_mapped_where_all_are_in_one_place() -> None:
    for free_mib in ((), (2000,)):
        plan = planned("qwen3moe", *free_mib)
        assert plan.placement.host_expert_blocks == (() if free_mib else tuple(range(12)))
        assert plan.load_mode is LoadMode.MMAP


def test_weights_are_read_where_a_device_computes_with_the_hosts() -> None:
    experts = planned("qwen3moe", 250)
    assert experts.placement.n_gpu_layers > experts.placement.n_block
    rule = TensorOverride(pattern="token_embd|blk.0.attn_q", where=HOST)
    whole = planned("llama", 2000, overrides=(rule,))
    assert whole.placement.n_gpu_layers > whole.placement.n_block
    for plan in (experts, whole):
        assert plan.load_mode is LoadMode.NONE
        assert any("page-locked" in reason for reason in plan.reasons)


def test_one_block_on_the_host_is_enough() -> None:
    request = Workload(ctx_size=4096, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0)
    plans = [make_plan(model("llama"), "q", machine(*cards(mib)), request) for mib in range(80, 110)]
    found = [plan for plan in plans if isinstance(plan, Plan) and plan.placement.n_gpu_layers == 4]
    assert found
    assert {plan.load_mode for plan in found} == {LoadMode.NONE}
