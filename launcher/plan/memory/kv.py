"""Size the caches of every block: keys and values, and recurrent state. Pure.

For a unified pool, whose cells all slots share; laws of llama.cpp 0c1e570.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import BLOCKS, GgmlType
from launcher.plan.amounts import Amount, Basis
from launcher.plan.modes import CacheType, Dialect
from launcher.plan.parameters import ContextParameters, pad_context

_GGML = {cache_type: GgmlType[cache_type.name] for cache_type in CacheType}
# Architectures whose caches have parts that are not modelled (compressed attention, partial indexers:
# llama-kv-cache-dsv4.cpp, llama-kv-cache-dsa.cpp, llama-memory-hybrid-idx.cpp). Their amount is an
# estimate, with a band as large as itself for every slot. The other 123 files of `test-llama-archs` agree
# to 0.03 MiB.
_OWN_CACHES = frozenset({"deepseek4", "dflash", "dots3note", "glm5-next", "hy_v4", "qwen4exp"})

_CELL_BYTES = 12  # of a cell in a saved state (llama_kv_cache::state_write_meta)
# Architectures whose recurrent states can be rolled back (llm_arch_supports_rs_rollback, src/llama-arch.cpp).
_ROLLS_BACK = frozenset(
    {
        "bailingmoe3",
        "deepseek4",
        "glm5-next",
        "kimi-k3",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen4exp",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCache:
    attention_bytes: int  # the part that one attention operation reads
    recurrent_bytes: int

    @property
    def n_bytes(self) -> int:
        return self.attention_bytes + self.recurrent_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    blocks: tuple[BlockCache, ...]
    cells: tuple[int, ...]  # sizes of the caches there are, full context first; each has a mask of its own
    band: int  # the band of an amount, as a multiple of it; 0 where amounts are exact

    def amount(self, blocks: Iterable[int]) -> Amount:
        n_bytes = sum(self.blocks[block].n_bytes for block in blocks)
        basis = Basis.ESTIMATED if self.band else Basis.EXACT
        return Amount(n_bytes=n_bytes, basis=basis, band_bytes=n_bytes * self.band)


def cache_row_bytes(cache_type: CacheType, n_elements: int) -> int:
    """Return the bytes of `n_elements`, rounded up to whole blocks of the type."""
    # llama.cpp refuses a number that does not divide.
    per_block, size = BLOCKS[_GGML[cache_type]]
    return -(-n_elements // per_block) * size


def size_caches(architecture: Architecture, parameters: ContextParameters) -> Caches:
    full = pad_context(parameters.ctx_size)
    window = window_cells(architecture, parameters)
    kept = parameters.n_rs_seq if architecture.name in _ROLLS_BACK else 0
    blocks = tuple(
        BlockCache(
            attention_bytes=_attention_bytes(architecture, parameters, block, full, window),
            recurrent_bytes=_recurrent_bytes(architecture, parameters, block) * (1 + kept),
        )
        for block in range(architecture.n_block)
    )
    return Caches(
        blocks=blocks,
        cells=(full, window) if any(architecture.swa_blocks) else (full,),
        band=parameters.n_parallel if architecture.name in _OWN_CACHES else 0,
    )


def window_cells(architecture: Architecture, parameters: ContextParameters) -> int:
    """Return the cells of the sliding blocks' cache; the whole context where nothing slides."""
    # src/llama-kv-cache-iswa.cpp
    full = pad_context(parameters.ctx_size)
    # ik_llama.cpp keeps every block's whole context (llama_kv_cache_init; log M029, Gemma 3)
    if architecture.n_swa is None or parameters.dialect is Dialect.IK:
        return full
    wanted = architecture.n_swa * parameters.n_parallel + parameters.n_tokens
    return pad_context(min(full, wanted))


def state_bytes(architecture: Architecture, parameters: ContextParameters, *, swa_full: bool = False) -> int:
    """Return the bytes of one slot's checkpoint, 0 for models that need none."""
    # llama-server saves what cannot be rolled back: recurrent states, and of the sliding blocks' cache the
    # cells that the window still shows (llama_kv_cache::state_write), each with its position and sequence.
    window = 0
    if architecture.n_swa is not None and not swa_full:
        cells = min(pad_context(parameters.ctx_size), architecture.n_swa)
        rows = sum(
            sum(_row(architecture, parameters, block))
            for block in range(architecture.n_block)
            if architecture.kv_blocks[block] and architecture.swa_blocks[block]
        )
        window = cells * (rows + _CELL_BYTES) if rows else 0
        if architecture.name in _OWN_CACHES:
            # DeepSeek V4 also saves its compressors' states, and has no V: 17.5 MiB for 10.8 counted so.
            window *= 2
    recurrent = sum(
        _recurrent_bytes(architecture, parameters, block) for block in range(architecture.n_block)
    )
    return window + recurrent // parameters.n_parallel


def _row(architecture: Architecture, parameters: ContextParameters, block: int) -> tuple[int, int]:
    """Return the bytes of K and of V in one cell of the block."""
    # src/llama-kv-cache.cpp, constructor: n_head_kv x head size elements of K, and of V unless the model is
    # MLA.
    sliding = architecture.swa_blocks[block]
    head_k = architecture.n_embd_head_k_swa if sliding else architecture.n_embd_head_k
    head_v = architecture.n_embd_head_v_swa if sliding else architecture.n_embd_head_v
    n_head_kv = architecture.n_head_kv[block]
    k = cache_row_bytes(parameters.cache_type_k, head_k * n_head_kv)
    v = 0 if architecture.is_mla else cache_row_bytes(parameters.cache_type_v, head_v * n_head_kv)
    return k, v


def _attention_bytes(
    architecture: Architecture, parameters: ContextParameters, block: int, full: int, window: int
) -> int:
    if not architecture.kv_blocks[block]:
        return 0
    cells = window if architecture.swa_blocks[block] else full
    indexer = architecture.indexer_key_length
    index = cells * cache_row_bytes(parameters.cache_type_k, indexer) if indexer else 0
    return (cells * sum(_row(architecture, parameters, block)) + index) * architecture.n_loop


def _recurrent_bytes(architecture: Architecture, parameters: ContextParameters, block: int) -> int:
    if architecture.recurrence is None or not architecture.recurrent_blocks[block]:
        return 0
    # F32 states per slot (src/llama-memory-recurrent.cpp).
    floats = architecture.recurrence.conv_elements + architecture.recurrence.state_elements
    return 4 * floats * max(parameters.n_parallel, 1)
