"""Which blocks slide, recur and cache; expected values follow src/models/*.cpp."""

from __future__ import annotations

import pytest

from launcher.gguf.header import Value
from tests.gguf.architectures import flags, read


@pytest.mark.parametrize(
    ("name", "numbers", "n_swa", "pattern"),
    [
        ("gemma3", {"attention.sliding_window": 512, "block_count": 7}, 512, "1111101"),
        ("gemma3", {}, None, "0000"),
        ("gemma3", {"attention.sliding_window": 0}, None, "0000"),
        ("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": 2}, 512, "1010"),
        ("gemma2", {}, 4096, "1010"),
        ("gpt-oss", {"attention.sliding_window": 128}, 128, "1010"),
        ("cohere2moe", {"attention.sliding_window": 32}, 32, "0111"),
        ("smallthinker", {"attention.sliding_window": 99}, 4096, "0111"),
        ("llama4", {}, 8192, "1110"),
        ("llama4", {"attention.sliding_window": 77}, 8192, "1110"),
        ("llama4", {"attention.sliding_window": 0}, None, "0000"),
        (
            "gemma4",
            {"attention.sliding_window": 9, "attention.sliding_window_pattern": (True, False, True, False)},
            9,
            "1010",
        ),
        (
            "mimo2",
            {"attention.sliding_window": 9, "attention.sliding_window_pattern": (1, 0, 0, 1)},
            9,
            "1001",
        ),
        ("mimo2", {"attention.sliding_window": 9}, 9, "0000"),
        ("step35", {"attention.sliding_window": 9, "attention.sliding_window_pattern": (True,)}, 9, "1000"),
        ("deepseek4", {"attention.sliding_window": 9}, 9, "1111"),
        ("deepseek4", {}, None, "0000"),
        ("lfm2", {"attention.sliding_window": 9, "attention.head_count_kv": (0, 2, 0, 2)}, 9, "0101"),
        ("exaone4", {"attention.sliding_window": 9}, None, "0000"),
        ("exaone4", {"block_count": 64}, 4096, "1110" * 16),
        (
            "exaone-moe",
            {"attention.sliding_window": 9, "nextn_predict_layers": 2, "block_count": 6},
            9,
            "111000",
        ),
        ("phi3", {"attention.sliding_window": 2048}, None, "0000"),
    ],
)
def test_sliding_windows(name: str, numbers: dict[str, Value], n_swa: int | None, pattern: str) -> None:
    model = read(name, **numbers)
    assert (model.n_swa, model.swa_blocks) == (n_swa, flags(pattern))


@pytest.mark.parametrize(
    ("name", "numbers", "recurrent", "cached"),
    [
        ("mamba", {}, "1111", "0000"),
        ("rwkv7", {"wkv.head_size": 8}, "1111", "0000"),
        ("falcon-h1", {}, "1111", "1111"),
        ("jamba", {"attention.head_count_kv": (0, 2, 0, 0)}, "1011", "0100"),
        (
            "nemotron_h",
            {"attention.head_count_kv": (0, 2, 0, 0), "feed_forward_length": (0, 0, 9, 0)},
            "1001",
            "0100",
        ),
        ("qwen3next", {}, "1110", "0001"),
        (
            "kimi-k3",
            {"attention.head_count_kv": (0, 2, 0, 0), "nextn_predict_layers": 1, "feed_forward_length": 9},
            "1010",
            "0100",
        ),
        ("llama", {"full_attention_interval": 2, "feed_forward_length": 9}, "0000", "1111"),
        ("gemma3n", {"block_count": 20}, "0" * 20, "1" * 20),
        ("qwen3next", {"full_attention_interval": 2}, "1010", "0101"),
        ("qwen35", {"attention.recurrent_layers": (True, False, False, True)}, "1001", "0110"),
        ("qwen35", {"nextn_predict_layers": 1, "block_count": 5}, "11100", "00010"),
        ("minimax-01", {"block_count": 8}, "11111110", "00000001"),
        ("bert", {}, "0000", "0000"),
        ("gemma3n", {"block_count": 22, "attention.sliding_window": 9}, "0" * 22, "1" * 20 + "00"),
        ("gemma4", {"attention.shared_kv_layers": 1}, "0000", "1110"),
        ("deepseek2", {"nextn_predict_layers": 1}, "0000", "1110"),
    ],
)
def test_who_keeps_a_state_and_who_keys_and_values(
    name: str, numbers: dict[str, Value], recurrent: str, cached: str
) -> None:
    model = read(name, **numbers)
    assert model.recurrent_blocks == flags(recurrent)
    assert model.kv_blocks == flags(cached)
