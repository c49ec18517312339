"""A real model for whoever moves files: a mixture of experts of Kimi's architecture, random weights, in shards."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tests.make_gguf import make_gguf

NUMBERS = {
    "n_block": 3, "n_embd": 256, "n_ff": 512, "n_head": 4, "q_lora": 128, "kv_lora": 128, "nope": 64, "rope": 32,
    "v": 64, "n_expert": 16, "n_used": 2, "n_ff_exp": 128, "n_vocab": 608, "n_ctx": 2048,
}  # fmt: skip
"""About 3.4 MiB: in three shards each is a little over 1 MiB."""


@functools.cache
def moe_shards(stem: str, splits: int = 3, *, n_expert: int = NUMBERS["n_expert"]) -> dict[str, bytes]:
    """The shards of one model by file name; every expert adds 0.1 MiB. llama-server loads it and answers `/completion`."""
    folder, _, name = stem.rpartition("/")
    with tempfile.TemporaryDirectory() as made:
        paths = make_gguf(
            Path(made) / f"{name}.gguf", "deepseek2", splits=splits, numbers=NUMBERS | {"n_expert": n_expert}
        )
        return {f"{folder}/{path.name}" if folder else path.name: path.read_bytes() for path in paths}
