"""A model's numbers as llama.cpp reads them from the metadata: `llama_model_base::load_hparams`
(src/llama-model.cpp) and each architecture's `load_arch_hparams` (src/models/*.cpp), llama.cpp 0c1e570.

Names are llama.cpp's. What a file does not say is None, or 0 per block, as there. It knows nothing about
memory: what the numbers cost is the planner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import BadGguf
from launcher.gguf.block_patterns import (
    cached_blocks,
    recurrent_blocks,
    sliding_blocks,
    window_of,
    window_tokens,
)
from launcher.gguf.cursor import quoted
from launcher.gguf.header import SkippedArray, TensorInfo, Value
from launcher.gguf.known_architectures import ARCHITECTURES, COMMIT

_MAX_BLOCKS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mla:
    """Multi-head latent attention: one latent of `kv_lora_rank` + `rope_dims` values a token and block is cached,
    and no V. Files without key_length_mla (old conversions) cache full K and V instead."""

    q_lora_rank: int | None
    kv_lora_rank: int
    key_length: int
    value_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """What the size of a recurrent state follows from (`llama_hparams::n_embd_r`, `n_embd_s`): floats per block
    and sequence, always F32."""

    conv_elements: int
    state_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Per-block tuples have `n_block` items, MTP blocks (the last `n_nextn`) included.

    `n_embd_head_k` and `_v` are the head sizes of full-attention blocks, `_swa` those of sliding ones.
    `swa_blocks`, `recurrent_blocks` and `kv_blocks` tell which blocks slide a window of `n_swa` tokens, keep a
    recurrent state, keep keys and values. `n_loop` is how often the blocks are run, each with a cache of its own.
    """

    name: str
    n_block: int
    n_nextn: int
    n_loop: int
    n_embd: int
    n_ctx_train: int
    n_vocab: int | None
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    n_ff: tuple[int, ...]
    n_ff_exp: tuple[int, ...]
    n_expert: int
    n_expert_used: tuple[int, ...]
    n_expert_shared: int | None
    n_dense_lead: int
    n_embd_head_k: int
    n_embd_head_v: int
    n_embd_head_k_swa: int
    n_embd_head_v_swa: int
    rope_dims: int
    mla: Mla | None
    kv_lora_rank: int | None
    indexer_key_length: int | None
    n_swa: int | None
    swa_blocks: tuple[bool, ...]
    recurrent_blocks: tuple[bool, ...]
    kv_blocks: tuple[bool, ...]
    recurrence: Recurrence | None
    has_output_tensor: bool

    @property
    def is_mla(self) -> bool:
        return self.mla is not None

    @property
    def is_moe(self) -> bool:
        return self.n_expert > 0

    @property
    def n_main(self) -> int:
        """Blocks without the MTP ones: `llama_hparams::n_layer`."""
        return self.n_block - self.n_nextn


class _Keys:
    """The metadata of one architecture, typed: what has the wrong type is a BadGguf, what is missing None."""

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        name = metadata.get("general.architecture")
        if not isinstance(name, str) or not name:
            raise BadGguf("general.architecture is missing: the file does not say which model it is")
        self.name = name
        self._metadata = metadata

    def number(self, key: str, most: int = (1 << 32) - 1) -> int | None:
        value = self._metadata.get(f"{self.name}.{key}")
        return None if value is None else self._whole(key, value, most)

    def required(self, key: str, most: int = (1 << 32) - 1) -> int:
        value = self.number(key, most)
        if value is None and self.name not in ARCHITECTURES:  # what has its numbers, a newer engine may know
            raise BadGguf(
                f"unknown model architecture {quoted(self.name)} (llama.cpp {COMMIT})",
                hint="use a newer engine: --engine PATH, or look for another file of this model",
            )
        if value is None:
            raise BadGguf(f"{self.name}.{key} is missing, and llama.cpp needs it")
        return value

    def per_block(self, key: str, n_block: int) -> tuple[int, ...] | None:
        """One number for all blocks, or one each (`llama_model_loader::get_key_or_arr`)."""
        value = self._metadata.get(f"{self.name}.{key}")
        if value is None:
            return None
        if isinstance(value, SkippedArray):
            raise BadGguf(f"{self.name}.{key} has {value.length} items, and the model {n_block} blocks")
        if not isinstance(value, tuple):
            return (self._whole(key, value, (1 << 32) - 1),) * n_block
        if len(value) != n_block:
            raise BadGguf(f"{self.name}.{key} has {len(value)} items, and the model {n_block} blocks")
        return tuple(self._whole(key, item, (1 << 32) - 1) for item in value)

    def flags(self, key: str, n_block: int) -> tuple[bool, ...] | None:
        """One flag per block, where the file has them; missing ones are off."""
        value = self._metadata.get(f"{self.name}.{key}")
        if not isinstance(value, tuple):
            return None
        flags = tuple(
            bool(self._whole(key, int(item) if isinstance(item, bool) else item, 1)) for item in value
        )
        return (flags + (False,) * n_block)[:n_block]

    def _whole(self, key: str, value: object, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadGguf(f"{self.name}.{key} must be a whole number and is {_shown(value)}")
        if not 0 <= value <= most:
            raise BadGguf(f"{self.name}.{key} is {value}, and must be from 0 to {most}")
        return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def read_architecture(metadata: Mapping[str, Value], tensors: tuple[TensorInfo, ...]) -> Architecture:
    """Read the model-level metadata (the first shard's) and the tensors of all shards.

    Raises BadGguf where llama.cpp would: numbers missing, of the wrong type, or beyond its limits.
    """
    keys = _Keys(metadata)
    if keys.name == "clip":
        raise BadGguf(
            "it is a multimodal projector (mmproj), not a language model",
            hint="name the model's own .gguf file; a projector is added with `-- --mmproj FILE`",
        )
    n_block = keys.required("block_count", _MAX_BLOCKS)
    if n_block == 0:
        raise BadGguf(f"{keys.name}.block_count is 0, and a model has at least one block")
    names = {tensor.name: tensor for tensor in tensors}
    n_nextn = _count_nextn(keys, n_block, names)
    n_main = n_block - n_nextn
    n_embd = keys.required("embedding_length")
    none = (0,) * n_block
    n_head = keys.per_block("attention.head_count", n_block) or none
    n_head_kv = keys.per_block("attention.head_count_kv", n_block) or n_head
    n_ff = keys.per_block("feed_forward_length", n_block) or none
    head_k, head_v, rope_dims = _head_sizes(keys, n_embd, n_head)
    recurrent = keys.flags("attention.recurrent_layers", n_block) or recurrent_blocks(
        keys.name, n_main, n_head_kv, n_ff, keys.number("full_attention_interval")
    )
    n_swa, sliding = _window(keys, n_block, n_main, recurrent)
    shared = keys.number("attention.shared_kv_layers") or 0
    mla = _mla(keys)
    if mla is not None and keys.name in {"kimi-k3", "glm5-next"}:
        head_v = mla.kv_lora_rank  # src/models/kimi-k3.cpp: older files have no value_length
    return Architecture(
        name=keys.name,
        n_block=n_block,
        n_nextn=n_nextn,
        n_loop=(keys.number("num_loops") or 1) if keys.name == "nanbeige" else 1,
        n_embd=n_embd,
        n_ctx_train=keys.required("context_length"),
        n_vocab=_n_vocab(keys, metadata, names),
        n_head=n_head,
        n_head_kv=n_head_kv,
        n_ff=n_ff,
        n_ff_exp=keys.per_block("expert_feed_forward_length", n_block) or none,
        n_expert=keys.number("expert_count", _MAX_EXPERTS) or 0,
        n_expert_used=keys.per_block("expert_used_count", n_block) or none,
        n_expert_shared=keys.number("expert_shared_count"),
        n_dense_lead=keys.number("leading_dense_block_count") or 0,
        n_embd_head_k=head_k,
        n_embd_head_v=head_v,
        n_embd_head_k_swa=_or(keys.number("attention.key_length_swa"), head_k),
        n_embd_head_v_swa=_or(keys.number("attention.value_length_swa"), head_v),
        rope_dims=rope_dims,
        mla=mla,
        kv_lora_rank=keys.number("attention.kv_lora_rank"),
        indexer_key_length=keys.number("attention.indexer.key_length"),
        n_swa=n_swa,
        swa_blocks=sliding,
        recurrent_blocks=recurrent,
        kv_blocks=cached_blocks(keys.name, n_main, recurrent, n_ff, shared),
        recurrence=_recurrence(keys, n_embd, n_head[0], head_k) if any(recurrent) else None,
        has_output_tensor="output.weight" in names,
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _count_nextn(keys: _Keys, n_block: int, names: Mapping[str, TensorInfo]) -> int:
    n_nextn = keys.number("nextn_predict_layers", n_block) or 0
    if keys.name == "deepseek4" and f"blk.{n_block - n_nextn}.nextn.eh_proj.weight" not in names:
        return 0  # src/models/deepseek4.cpp: counted in the metadata, left out of the file
    return n_nextn


def _head_sizes(keys: _Keys, n_embd: int, n_head: tuple[int, ...]) -> tuple[int, int, int]:
    """K head, V head and rotated dimensions; all 0 for models without attention heads in block 0."""
    if n_head[0] == 0:
        return 0, 0, 0
    head_k = _or(keys.number("attention.key_length"), n_embd // n_head[0])
    head_v = _or(keys.number("attention.value_length"), n_embd // n_head[0])
    return head_k, head_v, _or(keys.number("rope.dimension_count"), head_k)


def _n_vocab(keys: _Keys, metadata: Mapping[str, Value], names: Mapping[str, TensorInfo]) -> int | None:
    n_vocab = keys.number("vocab_size")
    if n_vocab is not None:
        return n_vocab
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, SkippedArray):
        return tokens.length
    if isinstance(tokens, tuple):
        return len(tokens)
    embedding = names.get("token_embd.weight")
    return embedding.shape[1] if embedding is not None and len(embedding.shape) > 1 else None


def _mla(keys: _Keys) -> Mla | None:
    """`llama_hparams::is_mla`: both lengths are there and not 0."""
    key_length = keys.number("attention.key_length_mla")
    value_length = keys.number("attention.value_length_mla")
    kv_lora_rank = keys.number("attention.kv_lora_rank")
    if not key_length or not value_length or not kv_lora_rank:
        return None
    return Mla(
        q_lora_rank=keys.number("attention.q_lora_rank"),
        kv_lora_rank=kv_lora_rank,
        key_length=key_length,
        value_length=value_length,
    )


def _window(
    keys: _Keys, n_block: int, n_main: int, recurrent: tuple[bool, ...]
) -> tuple[int | None, tuple[bool, ...]]:
    """Tokens in the window, and which blocks slide it (`llama_model_base::load_swa_pattern`)."""
    none = (False,) * n_block
    in_file = keys.number("attention.sliding_window")
    if keys.name == "deepseek4":  # src/models/deepseek4.cpp: every block, MTP too
        return in_file or None, (bool(in_file),) * n_block
    if keys.name == "lfm2":  # src/models/lfm2.cpp: every block with attention
        return in_file or None, tuple(bool(in_file) and not flag for flag in recurrent)
    window = window_of(keys.name, n_main)
    n_swa = None if window is None else window_tokens(window, in_file)
    if window is None or n_swa is None:
        return None, none
    flags = keys.flags("attention.sliding_window_pattern", n_block)
    if flags is not None:
        return n_swa, flags
    period = window.period
    if period is None:
        return n_swa, none
    if keys.number("attention.sliding_window_pattern") is not None:
        period = keys.required("attention.sliding_window_pattern")
    return n_swa, sliding_blocks(n_block, n_main, period, full_first=window.full_first)


def _recurrence(keys: _Keys, n_embd: int, n_head: int, head_k: int) -> Recurrence:
    """`llama_hparams::n_embd_r` and `n_embd_s` (src/llama-hparams.cpp), in their order."""
    d_conv = keys.number("ssm.conv_kernel") or 0
    d_inner = keys.number("ssm.inner_size") or 0
    d_state = keys.number("ssm.state_size") or 0
    if (wkv := keys.number("wkv.head_size") or 0) > 0:
        shifts = _or(keys.number("token_shift_count"), 2)
        return Recurrence(conv_elements=shifts * n_embd, state_elements=n_embd * wkv)
    conv = max(d_conv - 1, 0) * (d_inner + 2 * (keys.number("ssm.group_count") or 0) * d_state)
    state = d_state * d_inner
    if (l_cache := keys.number("shortconv.l_cache") or 0) > 0:
        return Recurrence(conv_elements=n_embd * (l_cache - 1), state_elements=state)
    if (kda := keys.number("kda.head_dim") or 0) > 0:
        taps = d_conv - 1 if d_conv > 0 else 3
        return Recurrence(conv_elements=3 * taps * n_head * kda, state_elements=kda * kda * n_head)
    if keys.name == "minimax-01":
        return Recurrence(conv_elements=conv, state_elements=head_k * head_k * n_head)
    return Recurrence(conv_elements=conv, state_elements=state)
