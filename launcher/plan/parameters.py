"""Name what decides a llama.cpp context's memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from launcher.plan.modes import CacheType, Dialect, FlashAttention, Pooling

_PAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextParameters:
    """The settled parameters of a llama.cpp context; defaults are llama-server's."""

    ctx_size: int  # the whole KV pool in tokens
    n_parallel: int = 1
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    batch_size: int = 2048
    ubatch_size: int = 512
    flash_attn: FlashAttention = FlashAttention.AUTO
    n_rs_seq: int = 0  # recurrent states kept beside each slot's own, to undo drafted tokens
    embedding: bool = False  # the server answers with embeddings only
    pooling: Pooling | None = None  # None: the model's own
    op_offload: bool = True  # the first device computes with the host's weights in prompts
    dialect: Dialect = Dialect.LLAMA_CPP

    @property
    def all_outputs(self) -> bool:
        """Whether logits are reserved for every token of a batch."""
        # server_output_limits (tools/server/server-context.cpp)
        return self.embedding or self.pooling not in {None, Pooling.NONE}

    @property
    def cache_types(self) -> str:
        """Types of K and V, as in `f16/q8_0`."""
        return f"{self.cache_type_k}/{self.cache_type_v}"

    @property
    def n_tokens(self) -> int:
        """Tokens in the largest batch that is computed at once."""
        # llama-context.cpp, the constructor's n_ubatch.
        return min(self.ctx_size, self.batch_size, self.ubatch_size)


def context_fields(parameters: ContextParameters) -> dict[str, Any]:
    """Return the fields by name, to build another type that has them."""
    return {field.name: getattr(parameters, field.name) for field in fields(ContextParameters)}


def pad_context(n_tokens: int) -> int:
    """Round a context or a sliding window up to 256 tokens, as llama.cpp does."""
    # llama-context.cpp and llama-kv-cache-iswa.cpp.
    return -(-n_tokens // _PAD) * _PAD
