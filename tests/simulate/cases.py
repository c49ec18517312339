"""Configurations of llama-server that are simulated and started, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, FlashAttention, SplitMode, TensorOverride
from launcher.plan.oracle import Question

EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""Routed experts, as llama.cpp's --cpu-moe has them (common/common.h)."""
EXPERTS_ON_HOST = (TensorOverride(pattern=EXPERTS, where=HOST),)
SOME_EXPERTS_ON_HOST = (TensorOverride(pattern=r"blk\.[0-3]" + EXPERTS, where=HOST),)
QUANTISED_CACHE = {"cache_type_k": CacheType.Q8_0, "cache_type_v": CacheType.Q8_0}
FLASH = {"flash_attn": FlashAttention.ON}
NO_FLASH = {"flash_attn": FlashAttention.OFF}

ANY_MODEL: tuple[tuple[int, dict[str, object]], ...] = (
    (0, {}),
    (0, {"n_parallel": 4, **NO_FLASH}),
    (0, {"ubatch_size": 1024, **QUANTISED_CACHE}),
    (1, {"n_parallel": 4, "kv_unified": False}),
    (1, {"ubatch_size": 1024, **FLASH, **QUANTISED_CACHE}),
    (1, {"n_gpu_layers": 3}),
    (2, {}),
    (2, {"n_parallel": 4}),
    (2, {"ubatch_size": 1024, **NO_FLASH}),
    (2, QUANTISED_CACHE),
    (3, {}),
)
"""Devices, and what differs from the defaults."""

EXPERT_MODEL: tuple[tuple[int, dict[str, object]], ...] = (
    (1, {"overrides": EXPERTS_ON_HOST}),
    (1, {"overrides": SOME_EXPERTS_ON_HOST, "ubatch_size": 1024, **QUANTISED_CACHE}),
    (1, {"overrides": EXPERTS_ON_HOST, "no_host": True}),
    (2, {"overrides": EXPERTS_ON_HOST, "n_parallel": 4}),
    (2, {"overrides": EXPERTS_ON_HOST, "op_offload": False}),
    (2, {"overrides": SOME_EXPERTS_ON_HOST}),
    (2, {"tensor_split": (1.0, 3.0)}),
    (2, {"split_mode": SplitMode.NONE, "main_gpu": 1}),
    (2, {"kv_offload": False}),
    (3, {"overrides": EXPERTS_ON_HOST}),
    (3, {"ubatch_size": 1024, "n_parallel": 4}),
)

SPLIT_TENSORS = {"split_mode": SplitMode.TENSOR}
DENSE_TENSORS: tuple[tuple[int, dict[str, object]], ...] = (
    (2, SPLIT_TENSORS),
    (2, {**SPLIT_TENSORS, "tensor_split": (1.0, 3.0), "n_parallel": 4, "kv_unified": False}),
    (2, {**SPLIT_TENSORS, "n_gpu_layers": 3, "ubatch_size": 1024}),
    (3, {**SPLIT_TENSORS, **QUANTISED_CACHE}),
)
EXPERT_TENSORS: tuple[tuple[int, dict[str, object]], ...] = (
    (2, {**SPLIT_TENSORS, "overrides": EXPERTS_ON_HOST}),
    (3, {**SPLIT_TENSORS, "overrides": SOME_EXPERTS_ON_HOST, "kv_offload": False}),
)
# architectures for which llama.cpp has no --split-mode tensor: compressed caches, and most hybrids
WITHOUT_TENSORS = ("deepseek2", "falcon-h1-dense", "kimi-linear-moe")

WITH_EXPERTS = ("deepseek2", "qwen3moe")


def configurations(
    models: Mapping[str, Path], devices: tuple[Device, ...], *, ctx_size: int = 4096
) -> Iterator[tuple[str, Question]]:
    """Yield every model with every configuration that suits it, on the first of `devices`."""
    for name, path in models.items():
        special: tuple[tuple[int, dict[str, object]], ...] = ()
        if name in WITH_EXPERTS:
            special = EXPERT_MODEL
        elif name.startswith("gemma"):
            special = ((2, {"swa_full": True}), (3, {"swa_full": True, **SPLIT_TENSORS}))
        if name not in WITHOUT_TENSORS:
            special = (*special, *DENSE_TENSORS, *(EXPERT_TENSORS if name in WITH_EXPERTS else ()))
        for n_devices, changes in (*ANY_MODEL, *special):
            if n_devices <= len(devices):
                question = Question(
                    model=str(path), devices=devices[:n_devices], ctx_size=ctx_size, **changes
                )
                yield describe(name, n_devices, changes), question


def describe(name: str, n_devices: int, changes: Mapping[str, object]) -> str:
    """`qwen3moe on 2: overrides, n_parallel=4`."""
    words = [key if key == "overrides" else f"{key}={value}" for key, value in changes.items()]
    words = [word.replace("cache_type_", "") for word in words]
    return f"{name} on {n_devices or 'CPU'}" + (f": {', '.join(words)}" if words else "")


def any_commit(path: Path, folder: Path) -> Path:
    """Copy a model of test-llama-archs with a tokenizer that every llama.cpp knows: `none`, not `test`."""
    before, key, after = path.read_bytes().partition(b"tokenizer.ggml.model")
    copy = folder / path.name
    copy.write_bytes(before + key + after.replace(b"test", b"none", 1))
    return copy
