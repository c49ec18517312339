"""One core, by the types of a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.gguf.tensors import TensorInfo
from launcher.plan.forecast.core_rate import core_rate_of
from launcher.plan.forecast.decode import weight_rate
from launcher.plan.forecast.factors import CORE_RATE
from launcher.plan.forecast.processors import host_processor
from tests.plan.shapes import machine

RATES = (("Q8_0", 30 * 10**9), ("IQ2_XXS", 3 * 10**9))


def tensor(name: str, kind: GgmlType, n_bytes: int) -> TensorInfo:
    return TensorInfo(name=name, shape=(256, 256), type=kind, offset=0, size_bytes=n_bytes)


def test_seconds_add_up_over_types_and_experts_count_by_use() -> None:
    tensors = [
        tensor("token_embd.weight", GgmlType.Q8_0, 10**9),  # looked up, not multiplied
        tensor("blk.0.attn_q.weight", GgmlType.Q8_0, 3 * 10**9),
        tensor("blk.0.ffn_up_exps.weight", GgmlType.IQ2_XXS, 6 * 10**9),
    ]
    seconds = 3e9 / 30e9 + 6e9 / 8 / 3e9
    assert core_rate_of(tensors, 1 / 8, RATES) == pytest.approx((3e9 + 6e9 / 8) / seconds)


def test_what_was_not_measured_counts_as_usual() -> None:
    tensors = [tensor("output.weight", GgmlType.Q4_K, 10**9)]
    assert core_rate_of(tensors, 1.0, RATES) == pytest.approx(CORE_RATE)
    assert core_rate_of(tensors, 1.0, ()) is None


def test_a_slow_type_makes_a_slow_host() -> None:
    box = machine()
    usual = weight_rate(host_processor(box, 8))
    slow = weight_rate(host_processor(replace(box, core_rate=2e9), 8))
    assert slow < usual / 2
