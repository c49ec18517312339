"""Cache sizes against numbers that engines logged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.architecture import Mla
from launcher.gguf.recurrence import Recurrence
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


# Two blocks with 2 heads of 64 for keys and of 32 for values; the second can slide, with heads of 16 and 8.
BLOCKS = replace(
    architecture_of(model("llama")),
    n_block=2,
    n_head_kv=(2, 2),
    n_embd_head_k=64,
    n_embd_head_v=32,
    n_embd_head_k_swa=16,
    n_embd_head_v_swa=8,
    kv_blocks=(True, True),
    swa_blocks=(False, False),
    recurrent_blocks=(False, False),
)
SLIDING = replace(BLOCKS, swa_blocks=(False, True), n_swa=100)
FULL_CELL, SLIDING_CELL = 2 * (64 + 32) * 2, 2 * (16 + 8) * 2  # F16


def test_a_block_caches_keys_and_values_of_every_cell() -> None:
    caches = size_caches(BLOCKS, parameters(1024))
    assert [block.n_bytes for block in caches.blocks] == [1024 * FULL_CELL] * 2
    assert caches.cells == (1024,)
    keys_only = replace(BLOCKS, mla=Mla(q_lora_rank=None, kv_lora_rank=1, key_length=1, value_length=1))
    assert size_caches(keys_only, parameters(1024)).blocks[0].n_bytes == 1024 * 2 * 64 * 2
    assert size_caches(replace(BLOCKS, n_loop=3), parameters(1024)).blocks[0].n_bytes == 3 * 1024 * FULL_CELL
    indexed = size_caches(replace(BLOCKS, indexer_key_length=10), parameters(1024)).blocks[0]
    assert indexed.n_bytes == 1024 * (FULL_CELL + 10 * 2)
    without = size_caches(replace(BLOCKS, kv_blocks=(True, False)), parameters(1024))
    assert [block.n_bytes for block in without.blocks] == [1024 * FULL_CELL, 0]


@pytest.mark.parametrize(("n_parallel", "cells"), [(1, 768), (4, 1024), (40, 4096)])
def test_a_window_has_cells_for_every_slot_and_one_batch(n_parallel: int, cells: int) -> None:
    asked = parameters(4096, n_parallel=n_parallel)
    caches = size_caches(SLIDING, asked)
    assert caches.cells == (4096, cells)
    assert [block.n_bytes for block in caches.blocks] == [4096 * FULL_CELL, cells * SLIDING_CELL]
    # a checkpoint is one slot's: what its window shows, each cell with position and sequence
    assert state_bytes(SLIDING, asked) == 100 * (SLIDING_CELL + 12)
    assert state_bytes(SLIDING, asked, swa_full=True) == 0
    assert state_bytes(replace(SLIDING, kv_blocks=(True, False)), asked) == 0
    assert state_bytes(replace(SLIDING, n_swa=400), parameters(256)) == 256 * (SLIDING_CELL + 12)


@pytest.mark.parametrize("n_parallel", [1, 3])
def test_a_recurrent_state_is_f32_for_every_slot(n_parallel: int) -> None:
    recurrent = replace(
        BLOCKS,
        recurrence=Recurrence(conv_elements=100, state_elements=1000),
        recurrent_blocks=(True, False),
        kv_blocks=(False, True),
    )
    asked = parameters(1024, n_parallel=n_parallel)
    first, second = size_caches(recurrent, asked).blocks
    assert (first.attention_bytes, first.recurrent_bytes) == (0, 4 * 1100 * n_parallel)
    assert (second.attention_bytes, second.recurrent_bytes) == (1024 * FULL_CELL, 0)
    both = size_caches(replace(recurrent, kv_blocks=(True, True)), asked)
    assert both.amount([0, 1]).n_bytes == 2 * 1024 * FULL_CELL + 4 * 1100 * n_parallel
    assert state_bytes(recurrent, asked) == 4 * 1100


def test_caches_that_are_not_modelled_are_an_estimate_for_every_slot() -> None:
    odd = size_caches(replace(BLOCKS, name="deepseek4"), parameters(1024, n_parallel=3)).amount([0])
    assert (odd.basis, odd.n_bytes, odd.band_bytes) == (
        Basis.ESTIMATED, 1024 * FULL_CELL, 3 * 1024 * FULL_CELL
    )  # fmt: skip
    plain = size_caches(BLOCKS, parameters(1024)).amount([0])
    assert (plain.basis, plain.band_bytes) == (Basis.EXACT, 0)
