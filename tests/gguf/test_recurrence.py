"""Sizes of recurrent states; expected values follow src/llama-hparams.cpp."""

from __future__ import annotations

import pytest

from launcher.gguf.header import Value
from launcher.gguf.recurrence import Recurrence
from tests.gguf.architectures import read


@pytest.mark.parametrize(
    ("name", "numbers", "conv", "state"),
    [
        ("mamba", {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16}, 3 * 128, 16 * 128),
        (
            "mamba2",
            {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.group_count": 3},
            3 * (128 + 2 * 3 * 16),
            16 * 128,
        ),
        ("rwkv6", {"wkv.head_size": 8}, 2 * 64, 64 * 8),
        ("rwkv7", {"wkv.head_size": 8, "token_shift_count": 1}, 64, 64 * 8),
        ("lfm2", {"attention.head_count_kv": 0, "shortconv.l_cache": 3}, 128, 0),
        ("kimi-linear", {"attention.head_count_kv": 0, "kda.head_dim": 32}, 3 * 3 * 4 * 32, 32 * 32 * 4),
        (
            "kimi-linear",
            {"attention.head_count_kv": 0, "kda.head_dim": 32, "ssm.conv_kernel": 6},
            3 * 5 * 4 * 32,
            32 * 32 * 4,
        ),
        (
            "kimi-linear",
            {"attention.head_count_kv": 0, "kda.head_dim": 32, "ssm.conv_kernel": 1},
            0,
            32 * 32 * 4,
        ),
        ("mamba", {"ssm.inner_size": 128, "ssm.state_size": 16}, 0, 16 * 128),
        ("lfm2", {"attention.head_count_kv": 0, "shortconv.l_cache": 1}, 0, 0),
        ("minimax-01", {"attention.key_length": 24}, 0, 24 * 24 * 4),
    ],
)
def test_sizes_of_recurrent_states(name: str, numbers: dict[str, Value], conv: int, state: int) -> None:
    assert read(name, **numbers).recurrence == Recurrence(conv_elements=conv, state_elements=state)
