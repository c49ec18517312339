"""Compute the size of a recurrent state: Mamba, RWKV, short convolutions, linear attention."""

# Source: `llama_hparams::n_embd_r` and `n_embd_s` (src/llama-hparams.cpp, llama.cpp 0c1e570).

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.architecture_keys import ArchitectureKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """Floats (always F32) of a recurrent state per block and sequence."""

    conv_elements: int
    state_elements: int


def read_recurrence(keys: ArchitectureKeys, n_embd: int, n_head: int, head_k: int) -> Recurrence:
    """Compute the size case by case in llama.cpp's order."""
    d_conv = keys.number("ssm.conv_kernel") or 0
    d_inner = keys.number("ssm.inner_size") or 0
    d_state = keys.number("ssm.state_size") or 0
    if (wkv := keys.number("wkv.head_size") or 0) > 0:
        shifts = keys.number("token_shift_count")
        shifts = 2 if shifts is None else shifts
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
