"""Hollow models that draft, or have MTP blocks to draft with; widths of real ones, few blocks.

Names, shapes and keys are what llama.cpp's src/models/{qwen35,eagle3,dflash}.cpp load.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.gguf.ggml import GgmlType
from tests.builders import Tensor, build_header
from tests.make_gguf import spm_vocabulary

N_VOCAB = 4096
_MATRIX = GgmlType.Q8_0
_STATE, _GROUPS, _RANK, _HEAD = 128, 16, 32, 256


def make_mtp(
    path: Path, *, n_main: int = 4, n_nextn: int = 1, n_embd: int = 2048, n_ctx: int = 262144
) -> Path:
    """A Qwen3.5: three recurrent blocks to one with attention, and MTP blocks behind them."""
    n_ff, n_head, n_head_kv, inner = 3 * n_embd, 16, 2, _STATE * _RANK
    metadata = _common("qwen35", n_main + n_nextn, n_embd, n_ff, n_ctx) | {
        "qwen35.attention.head_count": n_head,
        "qwen35.attention.head_count_kv": n_head_kv,
        "qwen35.attention.key_length": _HEAD,
        "qwen35.attention.value_length": _HEAD,
        "qwen35.rope.dimension_count": 64,
        "qwen35.rope.dimension_sections": [11, 11, 10, 0],
        "qwen35.rope.freq_base": 1e7,
        "qwen35.ssm.conv_kernel": 4,
        "qwen35.ssm.inner_size": inner,
        "qwen35.ssm.state_size": _STATE,
        "qwen35.ssm.time_step_rank": _RANK,
        "qwen35.ssm.group_count": _GROUPS,
        "qwen35.full_attention_interval": 4,
    }
    if n_nextn:
        metadata["qwen35.nextn_predict_layers"] = n_nextn
    tensors = list(_outer(n_embd))
    for block in range(n_main + n_nextn):
        b = f"blk.{block}."
        tensors += _vectors(b, attn_norm=n_embd, post_attention_norm=n_embd)
        if block >= n_main or block % 4 == 3:
            tensors += _attention(b, n_embd, 2 * n_head * _HEAD, n_head * _HEAD, n_head_kv * _HEAD)
            tensors += _vectors(b, attn_q_norm=_HEAD, attn_k_norm=_HEAD)
        else:
            tensors += _recurrence(b, n_embd, inner)
        tensors += _ffn(b, n_embd, n_ff)
        if block >= n_main:
            tensors.append(Tensor(b + "nextn.eh_proj.weight", (2 * n_embd, n_embd), _MATRIX))
            tensors += _vectors(b + "nextn.", enorm=n_embd, hnorm=n_embd, shared_head_norm=n_embd)
    return _write(path, metadata, tensors)


def make_eagle3(
    path: Path, *, n_target: int, layers: tuple[int, int, int], n_vocab: int, n_embd: int = 512
) -> Path:
    """An EAGLE-3 head without an embedding of its own, for a model `n_target` wide."""
    n_ff, n_head, n_head_kv, head = 3 * n_embd, 8, 2, 64
    metadata = _common("eagle3", 1, n_embd, n_ff, 8192, n_vocab) | {
        "eagle3.attention.head_count": n_head,
        "eagle3.attention.head_count_kv": n_head_kv,
        "eagle3.attention.key_length": head,
        "eagle3.attention.value_length": head,
        "eagle3.rope.dimension_count": head,
        "eagle3.target_layers": list(layers),
        "eagle3.target_hidden_size": n_target,
    }
    b = "blk.0."
    tensors = [
        Tensor("token_embd.weight", (n_embd, n_vocab), _MATRIX),
        Tensor("fc.weight", (3 * n_target, n_embd), _MATRIX),
        Tensor("output_norm.weight", (n_embd,)),
        Tensor("output.weight", (n_embd, n_vocab), _MATRIX),
        *_vectors(b, attn_norm=n_embd, attn_norm_2=n_embd, ffn_norm=n_embd),
        *_attention(b, 2 * n_embd, n_head * head, n_head * head, n_head_kv * head, n_embd),
        *_ffn(b, n_embd, n_ff),
    ]
    return _write(path, metadata, tensors)


def make_dflash(
    path: Path, *, n_embd: int, layers: tuple[int, ...], n_vocab: int, markov: bool = False
) -> Path:
    """A DFlash drafter on the model's embedding and head; with `markov` a DSpark one."""
    n_ff, n_head, n_head_kv, head, n_block = 3 * n_embd, 8, 2, 128, 2
    metadata = _common("dflash", n_block, n_embd, n_ff, 8192, n_vocab) | {
        "dflash.attention.head_count": n_head,
        "dflash.attention.head_count_kv": n_head_kv,
        "dflash.attention.key_length": head,
        "dflash.attention.value_length": head,
        "dflash.rope.dimension_count": head,
        "dflash.target_layers": list(layers),
        "dflash.block_size": 8,
        "tokenizer.ggml.mask_token_id": 5,
    }
    tensors = [
        Tensor("fc.weight", (len(layers) * n_embd, n_embd), _MATRIX),
        Tensor("enc.output_norm.weight", (n_embd,)),
        Tensor("output_norm.weight", (n_embd,)),
    ]
    if markov:
        tensors += [
            Tensor("markov_w1.weight", (64, n_vocab), _MATRIX),
            Tensor("markov_w2.weight", (64, n_vocab), _MATRIX),
            Tensor("conf_proj.weight", (n_embd + 64, 1), _MATRIX),
        ]
    for block in range(n_block):
        b = f"blk.{block}."
        tensors += _vectors(b, attn_norm=n_embd, attn_q_norm=head, attn_k_norm=head, ffn_norm=n_embd)
        tensors += _attention(b, n_embd, n_head * head, n_head * head, n_head_kv * head)
        tensors += _ffn(b, n_embd, n_ff)
    return _write(path, metadata, tensors)


def _common(
    architecture: str, n_block: int, n_embd: int, n_ff: int, n_ctx: int, n_vocab: int = N_VOCAB
) -> dict[str, object]:
    return {
        "general.architecture": architecture,
        f"{architecture}.context_length": n_ctx,
        f"{architecture}.embedding_length": n_embd,
        f"{architecture}.block_count": n_block,
        f"{architecture}.feed_forward_length": n_ff,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-6,
        **spm_vocabulary(n_vocab),
    }


def _outer(n_embd: int) -> Iterator[Tensor]:
    yield Tensor("token_embd.weight", (n_embd, N_VOCAB), _MATRIX)
    yield Tensor("output_norm.weight", (n_embd,))
    yield Tensor("output.weight", (n_embd, N_VOCAB), _MATRIX)


def _vectors(prefix: str, **sizes: int) -> Iterator[Tensor]:
    for name, size in sizes.items():
        yield Tensor(f"{prefix}{name}.weight", (size,))


def _attention(
    prefix: str, n_in: int, n_query: int, n_value: int, n_key: int, n_out: int | None = None
) -> Iterator[Tensor]:
    yield Tensor(prefix + "attn_q.weight", (n_in, n_query), _MATRIX)
    yield Tensor(prefix + "attn_k.weight", (n_in, n_key), _MATRIX)
    yield Tensor(prefix + "attn_v.weight", (n_in, n_key), _MATRIX)
    yield Tensor(prefix + "attn_output.weight", (n_value, n_out or n_in), _MATRIX)


def _recurrence(prefix: str, n_embd: int, inner: int) -> Iterator[Tensor]:
    channels = 2 * _STATE * _GROUPS + inner
    yield Tensor(prefix + "attn_qkv.weight", (n_embd, channels), _MATRIX)
    yield Tensor(prefix + "attn_gate.weight", (n_embd, inner), _MATRIX)
    yield Tensor(prefix + "ssm_conv1d.weight", (4, channels))
    yield Tensor(prefix + "ssm_dt.bias", (_RANK,))
    yield Tensor(prefix + "ssm_a", (_RANK,))
    yield Tensor(prefix + "ssm_beta.weight", (n_embd, _RANK))
    yield Tensor(prefix + "ssm_alpha.weight", (n_embd, _RANK))
    yield Tensor(prefix + "ssm_norm.weight", (_STATE,))
    yield Tensor(prefix + "ssm_out.weight", (inner, n_embd), _MATRIX)


def _ffn(prefix: str, n_embd: int, n_ff: int) -> Iterator[Tensor]:
    yield Tensor(prefix + "ffn_gate.weight", (n_embd, n_ff), _MATRIX)
    yield Tensor(prefix + "ffn_up.weight", (n_embd, n_ff), _MATRIX)
    yield Tensor(prefix + "ffn_down.weight", (n_ff, n_embd), _MATRIX)


def _write(path: Path, metadata: dict[str, object], tensors: list[Tensor]) -> Path:
    header = build_header(metadata, tensors)
    size = len(header) + sum(-(-tensor.size_bytes // 32) * 32 for tensor in tensors)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    return path
