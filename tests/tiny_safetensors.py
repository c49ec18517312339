"""A Llama of safetensors that is small, and hollow: its config and as many bytes as it has weights."""

from __future__ import annotations

import json
from pathlib import Path

_CONFIG = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 128,
    "max_position_embeddings": 2048,
}


def write_tiny_llama(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    (folder / "model.safetensors").write_bytes(b"\0" * 1_380_000)
