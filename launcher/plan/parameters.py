"""The parameters of one llama-server that decide how much memory it takes, all of them settled."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.modes import CacheType

_PAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`ctx_size` is the whole KV pool, `flash_attn` False only where it was switched off."""

    ctx_size: int
    n_parallel: int
    cache_type_k: CacheType
    cache_type_v: CacheType
    batch_size: int
    ubatch_size: int
    flash_attn: bool

    @property
    def cache_types(self) -> str:
        """Of K and V, as people write them."""
        return f"{self.cache_type_k}/{self.cache_type_v}"

    @property
    def n_tokens(self) -> int:
        """Tokens in the largest batch that is computed at once (llama-context.cpp, the constructor's n_ubatch)."""
        return min(self.ctx_size, self.batch_size, self.ubatch_size)


def pad_context(n_tokens: int) -> int:
    """llama.cpp pads contexts and sliding windows to 256 (llama-context.cpp, llama-kv-cache-iswa.cpp)."""
    return -(-n_tokens // _PAD) * _PAD
