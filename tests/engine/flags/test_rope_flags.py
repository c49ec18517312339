"""What each RoPE flag says of the context; what it makes of a limit is in tests/plan/test_rope.py."""

from __future__ import annotations

import pytest

from launcher.engine.flags.rope_flags import read_rope
from launcher.errors import UsageError
from launcher.plan.rope import Rope, Scaling


@pytest.mark.parametrize(
    ("flags", "rope"),
    [
        ("", Rope()),
        ("--seed 1 --jinja", Rope()),
        ("--rope-scaling none", Rope(scaling=Scaling.NONE)),
        ("--rope-scaling linear", Rope(scaling=Scaling.LINEAR)),
        ("--rope-scale 4", Rope(freq_scale=0.25)),
        ("--rope-freq-scale 0.5", Rope(freq_scale=0.5)),
        ("--rope-scale 4 --rope-freq-scale 0.5", Rope(freq_scale=0.5)),
        ("--yarn-orig-ctx 4096", Rope(original_ctx=4096)),
        ("--override-kv llama.context_length=int:16384", Rope(trained=16384)),
        ("--override-kv a.b=str:c,llama.context_length=int:9,d.e=bool:true", Rope(trained=9)),
        ("--override-kv tokenizer.ggml.add_bos_token=bool:false", Rope()),
        (
            "--rope-scaling yarn --seed 7 --rope-scale 2 --yarn-orig-ctx 8192",
            Rope(scaling=Scaling.YARN, freq_scale=0.5, original_ctx=8192),
        ),
    ],
)
def test_what_a_flag_says(flags: str, rope: Rope) -> None:
    assert read_rope(flags.split()) == rope


@pytest.mark.parametrize(
    "flags",
    [
        "--rope-scaling spline",
        "--rope-scale 0",
        "--rope-scale two",
        "--rope-freq-scale half",
        "--yarn-orig-ctx 4096.5",
        "--yarn-orig-ctx",
        "--rope-scale 2 3",
    ],
)
def test_a_value_llama_server_would_refuse_is_named_with_its_flag(flags: str) -> None:
    with pytest.raises(UsageError, match=f"{flags} is nothing llama-server would take"):
        read_rope(flags.split())
