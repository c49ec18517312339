"""Size what ik_llama.cpp allocates otherwise than llama.cpp. Pure.

src/llama.cpp of ik-llama-cpp-python 0.1.5. Compared with public load logs and with its own server in
tests/plan/memory/test_ik.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from launcher.gguf.architecture import Architecture, Mla
from launcher.gguf.ggml import GgmlType
from launcher.gguf.tensors import TensorInfo
from launcher.plan.memory.weights import Weights
from launcher.plan.modes import Dialect
from launcher.plan.parameters import ContextParameters
from launcher.units import MIB

_MLA = frozenset({"deepseek2", "glm-dsa", "mistral4"})  # llama_kv_cache_init, is_mla_attn
# `-amb` as a plan sets it: MiB of keys and values in F32 that are unpacked at once
HEADS_MIB = 512
_F16, _F32 = 2, 4
_Q8_0 = (34, 32)  # bytes and elements of a block
_FLOATS = {GgmlType.F32: 4, GgmlType.F16: 2, GgmlType.BF16: 2}
# The projection of MLA's latents to keys and values: whole, or parted as llama.cpp's converter does today.
_PROJECTIONS = ("attn_kv_b.weight", "attn_k_b.weight", "attn_v_b.weight")
# Its compute buffers do not follow the laws of compute.py: the band is as large as the amount.
BAND_PERCENT = 100


def as_read(architecture: Architecture) -> Architecture:
    """Return the architecture as it reads one: MLA also where an old conversion has whole keys and values."""
    if architecture.name not in _MLA or architecture.mla is not None or not architecture.kv_lora_rank:
        return architecture
    mla = Mla(
        q_lora_rank=None,  # decides no memory
        kv_lora_rank=architecture.kv_lora_rank,
        key_length=architecture.n_embd_head_k,
        value_length=architecture.n_embd_head_v,
    )
    return replace(
        architecture,
        mla=mla,
        n_embd_head_k=mla.kv_lora_rank + architecture.rope_dims,
        n_embd_head_v=mla.kv_lora_rank,
        n_head_kv=(1,) * architecture.n_block,
    )


def unpacked_latents(architecture: Architecture, parameters: ContextParameters) -> int:
    """Return the bytes of keys and values that `-mla 3` unpacks for a prompt; 0 for llama.cpp."""
    # build_deepseek2 (src/llama-build-context.cpp): as F32, then in F16 as V, K, and K with its positions.
    # Heads go one part after the other, so that a part is at most HEADS_MIB of F32 (`-amb`).
    if parameters.dialect is not Dialect.IK or architecture.mla is None:
        return 0
    rope = architecture.rope_dims
    nope, v = architecture.mla.key_length - rope, architecture.mla.value_length
    n_head = max(architecture.n_head)
    f32 = parameters.ctx_size * (nope + v) * _F32
    f16 = parameters.ctx_size * (2 * nope + v + 2 * rope) * _F16
    parts = (n for n in range(1, n_head + 1) if n_head % n == 0)
    most = next((n_head // n for n in parts if f32 * (n_head // n) <= HEADS_MIB * MIB), 1)
    return most * (f32 + f16)


def with_derived_weights(
    weights: Weights, architecture: Architecture, tensors: Iterable[TensorInfo]
) -> Weights:
    """Return the weights with the projections that it computes from those in the file, as Q8_0.

    A file has either attn_kv_b or attn_k_b and attn_v_b; it wants both (llm_prepare_mla).
    """
    types = {tensor.type for tensor in tensors if tensor.name.endswith(_PROJECTIONS)}
    if architecture.mla is None or not types:
        return weights
    mla = architecture.mla
    width = mla.key_length - architecture.rope_dims + mla.value_length
    n_values = max(architecture.n_head) * width * mla.kv_lora_rank
    each = max((_FLOATS.get(type_, 0) for type_ in types), default=0)
    n_bytes = n_values * each if each else n_values * _Q8_0[0] // _Q8_0[1]
    blocks = range(architecture.n_block)
    layers = tuple(
        replace(layer, dense_bytes=layer.dense_bytes + n_bytes) if index in blocks else layer
        for index, layer in enumerate(weights.layers)
    )
    return replace(weights, layers=layers, amx_bytes=0)  # it has no AMX kernels
