"""Read a model's numbers from the metadata as llama.cpp does."""

# Source: `llama_model_base::load_hparams` (src/llama-model.cpp) and each architecture's `load_arch_hparams`
# (src/models/*.cpp), llama.cpp 0c1e570. Names are llama.cpp's. A number that the file lacks is None, or 0
# per block. What the numbers cost in memory is for plan/ to say.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import BadGguf
from launcher.gguf.architecture_keys import ArchitectureKeys
from launcher.gguf.block_patterns import (
    cached_blocks,
    recurrent_blocks,
    sliding_blocks,
    window_of,
    window_tokens,
)
from launcher.gguf.header import SkippedArray, TensorInfo, Value
from launcher.gguf.recurrence import Recurrence, read_recurrence

_MAX_BLOCKS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mla:
    """Multi-head latent attention: caches one latent of `kv_lora_rank` + `rope_dims` values and no V.

    Files without key_length_mla (old conversions) cache full K and V instead; they have no `Mla`.
    """

    q_lora_rank: int | None
    kv_lora_rank: int
    key_length: int
    value_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's numbers. Per-block tuples have `n_block` items, MTP blocks (the last `n_nextn`) included."""

    name: str
    n_block: int
    n_nextn: int
    n_loop: int  # times the blocks are run, each time with a cache of its own
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
    n_embd_head_k: int  # head sizes in full-attention blocks
    n_embd_head_v: int
    n_embd_head_k_swa: int  # head sizes in sliding blocks
    n_embd_head_v_swa: int
    rope_dims: int
    mla: Mla | None
    kv_lora_rank: int | None
    indexer_key_length: int | None
    n_swa: int | None  # tokens in the sliding window
    swa_blocks: tuple[bool, ...]  # which blocks slide the window
    recurrent_blocks: tuple[bool, ...]  # which blocks keep a recurrent state
    kv_blocks: tuple[bool, ...]  # which blocks keep keys and values
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
        """Number of blocks without the MTP ones: `llama_hparams::n_layer`."""
        return self.n_block - self.n_nextn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    n_block: int
    n_nextn: int
    n_embd: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    n_ff: tuple[int, ...]

    @property
    def n_main(self) -> int:
        return self.n_block - self.n_nextn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """Sizes of the attention heads, in full-attention blocks and (`_swa`) in sliding ones."""

    k: int
    v: int
    k_swa: int
    v_swa: int
    rope_dims: int
    mla: Mla | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caches:
    """Which blocks keep what between tokens."""

    n_swa: int | None
    swa: tuple[bool, ...]
    recurrent: tuple[bool, ...]
    kv: tuple[bool, ...]
    recurrence: Recurrence | None


def read_architecture(metadata: Mapping[str, Value], tensors: tuple[TensorInfo, ...]) -> Architecture:
    """Read the first shard's metadata and the tensors of all shards. Raises BadGguf where llama.cpp would."""
    keys = _language_model(metadata)
    by_name = {tensor.name: tensor for tensor in tensors}
    shape = _read_shape(keys, by_name)
    heads = _read_heads(keys, shape)
    caches = _read_caches(keys, shape, heads)
    return Architecture(
        name=keys.name,
        n_block=shape.n_block,
        n_nextn=shape.n_nextn,
        n_loop=(keys.number("num_loops") or 1) if keys.name == "nanbeige" else 1,
        n_embd=shape.n_embd,
        n_ctx_train=keys.required("context_length"),
        n_vocab=_n_vocab(keys, metadata, by_name),
        n_head=shape.n_head,
        n_head_kv=shape.n_head_kv,
        n_ff=shape.n_ff,
        n_ff_exp=_per_block_or_0(keys, "expert_feed_forward_length", shape.n_block),
        n_expert=keys.number("expert_count", _MAX_EXPERTS) or 0,
        n_expert_used=_per_block_or_0(keys, "expert_used_count", shape.n_block),
        n_expert_shared=keys.number("expert_shared_count"),
        n_dense_lead=keys.number("leading_dense_block_count") or 0,
        n_embd_head_k=heads.k,
        n_embd_head_v=heads.v,
        n_embd_head_k_swa=heads.k_swa,
        n_embd_head_v_swa=heads.v_swa,
        rope_dims=heads.rope_dims,
        mla=heads.mla,
        kv_lora_rank=keys.number("attention.kv_lora_rank"),
        indexer_key_length=keys.number("attention.indexer.key_length"),
        n_swa=caches.n_swa,
        swa_blocks=caches.swa,
        recurrent_blocks=caches.recurrent,
        kv_blocks=caches.kv,
        recurrence=caches.recurrence,
        has_output_tensor="output.weight" in by_name,
    )


def _language_model(metadata: Mapping[str, Value]) -> ArchitectureKeys:
    keys = ArchitectureKeys(metadata)
    if keys.name == "clip":
        raise BadGguf(
            "it is a multimodal projector (mmproj), not a language model",
            hint="name the model's own .gguf file; a projector is added with `-- --mmproj FILE`",
        )
    return keys


def _read_shape(keys: ArchitectureKeys, by_name: Mapping[str, TensorInfo]) -> _Shape:
    n_block = keys.required("block_count", _MAX_BLOCKS)
    if n_block == 0:
        raise BadGguf(f"{keys.name}.block_count is 0, and a model has at least one block")
    n_nextn = _count_nextn(keys, n_block, by_name)
    n_embd = keys.required("embedding_length")
    n_head = _per_block_or_0(keys, "attention.head_count", n_block)
    return _Shape(
        n_block=n_block,
        n_nextn=n_nextn,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=keys.per_block("attention.head_count_kv", n_block) or n_head,
        n_ff=_per_block_or_0(keys, "feed_forward_length", n_block),
    )


def _per_block_or_0(keys: ArchitectureKeys, key: str, n_block: int) -> tuple[int, ...]:
    return keys.per_block(key, n_block) or (0,) * n_block


def _value_or(value: int | None, default: int) -> int:
    return default if value is None else value


def _count_nextn(keys: ArchitectureKeys, n_block: int, by_name: Mapping[str, TensorInfo]) -> int:
    n_nextn = keys.number("nextn_predict_layers", n_block) or 0
    if keys.name == "deepseek4" and f"blk.{n_block - n_nextn}.nextn.eh_proj.weight" not in by_name:
        return 0  # src/models/deepseek4.cpp: counted in the metadata, left out of the file
    return n_nextn


def _read_heads(keys: ArchitectureKeys, shape: _Shape) -> _Heads:
    mla = _mla(keys)
    k = v = rope_dims = 0  # for models without attention heads in block 0
    if n_head := shape.n_head[0]:
        k = _value_or(keys.number("attention.key_length"), shape.n_embd // n_head)
        v = _value_or(keys.number("attention.value_length"), shape.n_embd // n_head)
        rope_dims = _value_or(keys.number("rope.dimension_count"), k)
    if mla is not None and keys.name in {"kimi-k3", "glm5-next"}:
        v = mla.kv_lora_rank  # src/models/kimi-k3.cpp: older files have no value_length
    return _Heads(
        k=k,
        v=v,
        k_swa=_value_or(keys.number("attention.key_length_swa"), k),
        v_swa=_value_or(keys.number("attention.value_length_swa"), v),
        rope_dims=rope_dims,
        mla=mla,
    )


def _mla(keys: ArchitectureKeys) -> Mla | None:
    key_length = keys.number("attention.key_length_mla")
    value_length = keys.number("attention.value_length_mla")
    kv_lora_rank = keys.number("attention.kv_lora_rank")
    # llama_hparams::is_mla: both lengths are there and not 0
    if not key_length or not value_length or not kv_lora_rank:
        return None
    return Mla(
        q_lora_rank=keys.number("attention.q_lora_rank"),
        kv_lora_rank=kv_lora_rank,
        key_length=key_length,
        value_length=value_length,
    )


def _n_vocab(
    keys: ArchitectureKeys, metadata: Mapping[str, Value], by_name: Mapping[str, TensorInfo]
) -> int | None:
    n_vocab = keys.number("vocab_size")
    if n_vocab is not None:
        return n_vocab
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, SkippedArray):
        return tokens.length
    if isinstance(tokens, tuple):
        return len(tokens)
    embedding = by_name.get("token_embd.weight")
    return embedding.shape[1] if embedding is not None and len(embedding.shape) > 1 else None


def _read_caches(keys: ArchitectureKeys, shape: _Shape, heads: _Heads) -> _Caches:
    recurrent = keys.flags("attention.recurrent_layers", shape.n_block) or recurrent_blocks(
        keys.name, shape.n_main, shape.n_head_kv, shape.n_ff, keys.number("full_attention_interval")
    )
    n_swa, sliding = _window(keys, shape, recurrent)
    n_shared = keys.number("attention.shared_kv_layers") or 0
    return _Caches(
        n_swa=n_swa,
        swa=sliding,
        recurrent=recurrent,
        kv=cached_blocks(keys.name, shape.n_main, recurrent, shape.n_ff, n_shared),
        recurrence=read_recurrence(keys, shape.n_embd, shape.n_head[0], heads.k) if any(recurrent) else None,
    )


def _window(
    keys: ArchitectureKeys, shape: _Shape, recurrent: tuple[bool, ...]
) -> tuple[int | None, tuple[bool, ...]]:
    """Return the tokens in the window and which blocks slide it (`llama_model_base::load_swa_pattern`)."""
    none = (False,) * shape.n_block
    in_file = keys.number("attention.sliding_window")
    if keys.name == "deepseek4":  # src/models/deepseek4.cpp: every block, MTP too
        return in_file or None, (bool(in_file),) * shape.n_block
    if keys.name == "lfm2":  # src/models/lfm2.cpp: every block with attention
        return in_file or None, tuple(bool(in_file) and not flag for flag in recurrent)
    window = window_of(keys.name, shape.n_main)
    n_swa = None if window is None else window_tokens(window, in_file)
    if window is None or n_swa is None:
        return None, none
    flags = keys.flags("attention.sliding_window_pattern", shape.n_block)
    if flags is not None:
        return n_swa, flags
    period = window.period
    if period is None:
        return n_swa, none
    if keys.number("attention.sliding_window_pattern") is not None:
        period = keys.required("attention.sliding_window_pattern")
    return n_swa, sliding_blocks(shape.n_block, shape.n_main, period, full_first=window.full_first)
