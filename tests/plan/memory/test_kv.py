"""Cache sizes against numbers that engines logged."""

from __future__ import annotations

import pytest

from launcher.plan.amounts import Basis
from launcher.plan.memory.kv import cache_row_bytes, size_caches, state_bytes, window_cells
from launcher.plan.modes import CacheType
from launcher.units import MIB
from tests.plan.shapes import architecture_of, model, parameters


def kv_mib(name: str, preset: str, ctx_size: int, cache_type: CacheType = CacheType.F16) -> float:
    architecture = architecture_of(model(name, preset))
    caches = size_caches(architecture, parameters(ctx_size, cache_type=cache_type))
    amount = caches.amount(range(architecture.n_block))
    assert amount.basis is Basis.EXACT
    return amount.n_bytes / MIB


@pytest.mark.parametrize(
    ("ctx_size", "cache_type", "logged_mib"),
    [
        (32768, CacheType.F16, 2196.00),
        (32768, CacheType.Q8_0, 1166.62),
        (65536, CacheType.Q8_0, 2333.25),
        (98304, CacheType.Q8_0, 3499.88),
        (131072, CacheType.Q8_0, 4666.5),
        (131072, CacheType.F16, 8784.0),
    ],
)
def test_mla_keeps_one_latent(ctx_size: int, cache_type: CacheType, logged_mib: float) -> None:
    """Published load logs of Kimi K2 and DeepSeek: 61 blocks x 576 values a token, no V."""
    assert logged_mib == pytest.approx(kv_mib("deepseek2", "kimi-k2.5", ctx_size, cache_type), abs=0.01)


@pytest.mark.parametrize(("cache_type", "logged_mib"), [(CacheType.F16, 6016.00), (CacheType.Q8_0, 3196.05)])
def test_grouped_queries(cache_type: CacheType, logged_mib: float) -> None:
    """Published load logs of Qwen3-235B at 32768: 94 blocks x (512 + 512) values."""
    assert logged_mib == pytest.approx(kv_mib("qwen3moe", "qwen3-235b", 32768, cache_type), abs=0.06)


@pytest.mark.parametrize(
    ("ctx_size", "n_parallel", "ubatch_size", "cells", "logged_mib"),
    [(8192, 1, 512, 1536, 640 + 624), (32768, 4, 2048, 6144, 2560 + 2496), (4096, 2, 128, 2304, 320 + 936)],
)
def test_sliding_window(
    ctx_size: int, n_parallel: int, ubatch_size: int, cells: int, logged_mib: float
) -> None:
    """Gemma 3 27B in llama.cpp's own no_alloc pass: 10 full blocks and 52 sliding ones."""
    architecture = architecture_of(model("gemma3", "gemma-3-27b"))
    asked = parameters(ctx_size, n_parallel=n_parallel, ubatch_size=ubatch_size)
    assert cells == window_cells(architecture, asked)
    assert logged_mib == size_caches(architecture, asked).amount(range(62)).n_bytes / MIB


def test_a_context_below_the_window_is_the_window() -> None:
    architecture = architecture_of(model("gemma3", "gemma-3-27b"))
    assert window_cells(architecture, parameters(512)) == 512


def test_cells_are_padded_to_256() -> None:
    assert kv_mib("llama", "mini", 1000) == kv_mib("llama", "mini", 1024)


def test_only_windows_and_recurrence_need_checkpoints() -> None:
    assert state_bytes(architecture_of(model("llama")), parameters()) == 0
    assert state_bytes(architecture_of(model("gemma3")), parameters()) > 0


@pytest.mark.parametrize(
    ("cache_type", "n_bytes"), [(CacheType.F16, 1152), (CacheType.Q8_0, 612), (CacheType.Q4_0, 324)]
)
def test_a_row_is_whole_blocks(cache_type: CacheType, n_bytes: int) -> None:
    assert cache_row_bytes(cache_type, 576) == n_bytes
