"""The ledger of vLLM's ranks, against the table that was made by hand, and what vLLM itself logged."""

from __future__ import annotations

from fractions import Fraction

import pytest

from launcher.plan.vllm.from_config import WeightFiles, shape_of
from launcher.plan.vllm.ledger import rank_ledger, tokens_in
from launcher.plan.vllm.shape import HeadCache, LatentCache, ModelShape, stage_layers
from launcher.units import GIB

KIMI = {
    "model_type": "kimi_k2",
    "dtype": "bfloat16",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 64,
    "vocab_size": 163840,
    "quantization_config": {"config_groups": {"group_0": {"weights": {"group_size": 32}}}},
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 384,
    "first_k_dense_replace": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "max_position_embeddings": 262144,
}


@pytest.fixture
def kimi() -> ModelShape:
    files = WeightFiles(source="moonshotai/Kimi-K2.5", weight_bytes=595_148_192_736, tower_bytes=941_000_000)
    return shape_of(KIMI, files)


# GiB of a GPU as CUDA names it, ranks; weights, budget, cache in GiB, tokens in thousands
@pytest.mark.parametrize(
    ("gpu", "tp", "pp", "weights", "budget", "cache", "tokens"),
    [
        (139.80, 8, 1, 71.8, 128.6, (48.8, 52.8), (745, 807)),
        (139.80, 4, 1, 140.8, 128.6, (-20.1, -16.1), (0, 0)),
        (79.13, 8, 1, 71.8, 72.8, (-7.0, -3.0), (0, 0)),
        (79.13, 8, 2, 36.4, 72.8, (28.4, 32.4), (854, 975)),
    ],
)
def test_kimi_takes_what_the_table_says(
    kimi: ModelShape,
    gpu: float,
    tp: int,
    pp: int,
    weights: float,
    budget: float,
    cache: tuple[float, float],
    tokens: tuple[int, int],
) -> None:
    ledger = rank_ledger(kimi, int(gpu * GIB), tp, pp, Fraction(92, 100))
    assert ledger.weights / GIB == pytest.approx(weights, abs=0.06)
    assert ledger.budget / GIB == pytest.approx(budget, abs=0.06)
    assert (ledger.cache.low / GIB, ledger.cache.high / GIB) == pytest.approx(cache, abs=0.06)
    assert (ledger.tokens.low / 1000, ledger.tokens.high / 1000) == pytest.approx(tokens, rel=2e-3)


def test_every_byte_of_the_files_is_on_a_rank_and_what_is_whole_is_on_each(kimi: ModelShape) -> None:
    [(part, n_layers)] = kimi.stages(1)
    assert n_layers == 61
    assert part.divided + part.whole == pytest.approx(kimi.weight_bytes, abs=kimi.weight_bytes * 1e-9 + 61)
    # q_a, kv_a and the routers, and the vision encoder
    assert part.whole / GIB == pytest.approx(2.03 + 0.88, abs=0.01)
    assert part.on_rank(8) == -(-part.divided // 8) + part.whole


def test_layers_go_to_stages_as_vllm_parts_them() -> None:
    # vllm/distributed/utils.py, get_pp_indices
    assert [stage_layers(61, rank, 2) for rank in range(2)] == [(0, 31), (31, 61)]
    assert [stage_layers(10, rank, 4) for rank in range(4)] == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert [stage_layers(8, rank, 4) for rank in range(4)] == [(0, 2), (2, 4), (4, 6), (6, 8)]


@pytest.mark.parametrize(
    ("cache", "n_layers", "tp", "token_bytes", "tokens"),
    [
        # logged by vLLM 0.32 for VLLM_CPU_KVCACHE_SPACE=1
        (HeadCache(n_kv_heads=4, head_dim=32, weight_bytes=0), 4, 1, 2048, 524_288),
        (LatentCache(width=576), 3, 1, 3456, 310_688),
        (LatentCache(width=576), 3, 2, 3456, 310_688),
    ],
)
def test_a_gib_of_cache_holds_the_tokens_that_vllm_logs(
    cache: HeadCache | LatentCache, n_layers: int, tp: int, token_bytes: int, tokens: int
) -> None:
    assert n_layers * cache.bytes_per_layer(tp, 2) == token_bytes
    assert tokens_in(GIB, token_bytes) == tokens


def test_heads_are_divided_among_ranks_until_each_has_one() -> None:
    cache = HeadCache(n_kv_heads=8, head_dim=128, weight_bytes=1000)
    assert [cache.bytes_per_layer(tp, 2) for tp in (1, 4, 8, 16)] == [4096, 1024, 512, 512]
    # 16 ranks have 8 heads twice: half a head's weights more on each than the files divided by 16
    assert [cache.repeated_bytes(tp) for tp in (1, 8, 16)] == [0, 0, 500]
