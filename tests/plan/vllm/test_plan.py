"""Ranks for the GPUs of machines, and verdicts that are never a yes where the band lies across the budget."""

from __future__ import annotations

from fractions import Fraction

import pytest

from launcher.errors import UsageError
from launcher.plan.vllm.from_config import WeightFiles, shape_of
from launcher.plan.vllm.ledger import RUNTIME_BYTES
from launcher.plan.vllm.plan import GpuPool, VllmRequest, VllmVerdict, larger_pool, plan_vllm
from launcher.plan.vllm.shape import ModelShape
from launcher.units import GIB


def qwen(weight_bytes: int = 16 * GIB, **others: object) -> ModelShape:
    config = {
        "model_type": "qwen3",
        "torch_dtype": "bfloat16",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        **others,
    }
    return shape_of(config, WeightFiles(source="Qwen/Qwen3-8B", weight_bytes=weight_bytes))


def pool(gib: float, count: int = 1, machines: int = 1) -> GpuPool:
    return GpuPool(name="GPU", total_bytes=int(gib * GIB), per_machine=count, machines=machines)


def test_the_verdict_is_yes_only_with_the_most_that_vllm_may_take() -> None:
    shape, request = qwen(), VllmRequest(ctx_size=32768, utilisation=Fraction(1))
    cache = 32768 * 36 * 4096
    low, high = (16 * GIB + runtime + cache for runtime in RUNTIME_BYTES)
    kinds = {
        gib: plan_vllm(shape, GpuPool(name="GPU", total_bytes=gib, per_machine=1), request).verdict
        for gib in (low - GIB, low + GIB, high - GIB, high + GIB)
    }
    assert list(kinds.values()) == [
        VllmVerdict.DOES_NOT_FIT,
        VllmVerdict.UNCERTAIN,
        VllmVerdict.UNCERTAIN,
        VllmVerdict.FITS,
    ]


def test_a_context_that_nobody_stated_is_what_is_sure() -> None:
    full = plan_vllm(qwen(), pool(79.1), VllmRequest())
    assert (full.ctx_size, full.verdict) == (40960, VllmVerdict.FITS)
    short = plan_vllm(qwen(), pool(30), VllmRequest())
    assert short.verdict is VllmVerdict.FITS
    assert short.ctx_size % 1024 == 0
    assert short.ctx_size <= short.ledger.tokens.low < short.ctx_size + 1024
    assert plan_vllm(qwen(), pool(79.1), VllmRequest(n_parallel=8)).ctx_size == 40960
    with pytest.raises(UsageError, match="more than the model's 40960 tokens"):
        plan_vllm(qwen(), pool(79.1), VllmRequest(ctx_size=40961))


def test_requests_at_once_need_the_cache_of_all() -> None:
    one = plan_vllm(qwen(), pool(40), VllmRequest(ctx_size=32768))
    many = plan_vllm(qwen(), pool(40), VllmRequest(ctx_size=32768, n_parallel=64))
    assert (one.verdict, many.verdict) == (VllmVerdict.FITS, VllmVerdict.DOES_NOT_FIT)
    assert many.missing.high - many.missing.low == RUNTIME_BYTES[1] - RUNTIME_BYTES[0]


def test_ranks_divide_the_heads() -> None:
    assert plan_vllm(qwen(), pool(24, 6), VllmRequest()).tp == 4  # 32 heads, 8 of keys and values
    assert plan_vllm(qwen(), pool(24, 3), VllmRequest()).tp == 2
    with pytest.raises(UsageError, match="do not divide among 3 GPUs"):
        plan_vllm(qwen(), pool(24, 4), VllmRequest(tp=3))
    with pytest.raises(UsageError, match="takes 8 GPUs, and there are 4"):
        plan_vllm(qwen(), pool(24, 4), VllmRequest(tp=4, pp=2))
    with pytest.raises(UsageError, match="more stages than the model's 36 layers"):
        plan_vllm(qwen(), pool(24, 1, 64), VllmRequest(pp=64))


def test_ranks_divide_what_vllm_divides() -> None:
    odd = qwen(17 * GIB, num_attention_heads=48, num_key_value_heads=48, intermediate_size=12800, head_dim=64)
    with pytest.raises(UsageError, match="a width of 12800 does not divide among 3 GPUs"):
        plan_vllm(odd, pool(80, 3), VllmRequest(tp=3))
    assert plan_vllm(odd, pool(80, 3), VllmRequest()).tp == 2
    narrow = qwen(intermediate_size=1536, quantization_config={"weight_block_size": [128, 128]})
    with pytest.raises(UsageError, match="a width of 1536 does not divide among 8 GPUs in blocks of 128"):
        plan_vllm(narrow, pool(80, 8), VllmRequest(tp=8))
    assert plan_vllm(narrow, pool(80, 8), VllmRequest()).tp == 4


def test_ranks_are_as_many_on_each_machine() -> None:
    with pytest.raises(UsageError, match="is 7 ranks, which 4 machines cannot have alike"):
        plan_vllm(qwen(), pool(80, 2, 4), VllmRequest(tp=1, pp=7))


def test_requests_that_vllm_samples_at_once_are_bounded() -> None:
    assert plan_vllm(qwen(), pool(80), VllmRequest(ctx_size=16, n_parallel=1024)).verdict is VllmVerdict.FITS
    with pytest.raises(UsageError, match="-np 1025 is more than 1024"):
        plan_vllm(qwen(), pool(80), VllmRequest(ctx_size=16, n_parallel=1025))


def test_what_would_do_is_a_plan_that_fits() -> None:
    request = VllmRequest()
    small = plan_vllm(qwen(120 * GIB), pool(79.1), request)
    assert small.verdict is VllmVerdict.DOES_NOT_FIT
    larger = larger_pool(small, request)
    assert larger is not None
    assert (larger.tp * larger.pp, larger.verdict) == (2, VllmVerdict.FITS)
    assert larger_pool(plan_vllm(qwen(9000 * GIB), pool(24), request), request) is None


@pytest.mark.parametrize("weights", [16, 20, 35, 60])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_more_memory_is_never_worse(weights: int, count: int) -> None:
    shape = qwen(weights * GIB)
    tokens = [
        plan_vllm(shape, pool(gib, count), VllmRequest()).ledger.tokens.low
        for gib in (16, 24, 32, 48, 80, 141)
    ]
    assert tokens == sorted(tokens)
