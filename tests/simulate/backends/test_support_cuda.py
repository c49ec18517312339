"""Sizes of tensors on a CUDA device: padding and the f16 copies of flash attention."""

from __future__ import annotations

from launcher.gguf.ggml import GgmlType as T
from launcher.simulate.backends.support_cuda import alloc_bytes
from tests.simulate.ops import attention, op, tensor


def test_pads_quantised_rows() -> None:
    rows = op("NONE", tensor(T.Q8_0, 576, 100))

    assert alloc_bytes(rows) == rows.n_bytes + (1024 - 576) // 32 * 34


def test_whole_rows_are_not_padded() -> None:
    rows = op("NONE", tensor(T.Q8_0, 1024, 100))

    assert alloc_bytes(rows) == rows.n_bytes


def test_converts_a_quantised_cache() -> None:
    node = attention(128, 128, cache=T.Q8_0)
    halves = 2 * 128 * 4096 * 8

    assert alloc_bytes(node) == node.n_bytes + 2 * halves
    assert alloc_bytes(attention(128, 128)) == node.n_bytes


def test_a_latent_cache_is_converted_once() -> None:
    node = attention(576, 512, n_head_kv=1, cache=T.Q8_0, k_view=True)

    assert alloc_bytes(node) == node.n_bytes + 2 * 576 * 4096
