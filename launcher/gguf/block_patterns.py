"""Tell which blocks slide a window, keep a recurrent state, or cache keys and values."""

# Source: `load_arch_hparams` of each src/models/*.cpp, `llama_model_base::load_swa_pattern` and
# `llama_model::create_memory` (src/llama-model.cpp), `llm_arch_is_recurrent` (src/llama-arch.cpp), at
# llama.cpp 0c1e570. llama.cpp has this per architecture, in code. An architecture not named here has full
# attention in every block.

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """An architecture's sliding window."""

    period: int | None  # every period-th block has full attention; None: the file has one flag per block
    full_first: bool = False  # the first block of each period is full, not the last
    n_swa: int | None = None  # tokens if the file does not say; None: no window then
    fixed: int | None = None  # tokens, whatever the file says


_WINDOWS: dict[str, Window] = {
    "afmoe": Window(period=4),
    "cohere2": Window(period=4),
    "cohere2moe": Window(period=4, full_first=True),
    "dflash": Window(period=None),
    "dots3note": Window(period=None),
    "exaone-moe": Window(period=4),
    "gemma-embedding": Window(period=6),
    "gemma2": Window(period=2, n_swa=4096),
    "gemma3": Window(period=6),
    "gemma3n": Window(period=5),
    "gemma4": Window(period=None),
    "gemma4-assistant": Window(period=None),
    "gpt-oss": Window(period=2),
    "granite_swa": Window(period=None),
    "laguna": Window(period=4, full_first=True),
    "llama4": Window(period=4, n_swa=8192, fixed=8192),
    "maple": Window(period=None),
    "mellum": Window(period=4),
    "mimo2": Window(period=None),
    "modern-bert": Window(period=3, full_first=True),
    "muse-glimmer": Window(period=4),
    "olmo2": Window(period=4),
    "plamo3": Window(period=8),
    "smallthinker": Window(period=4, full_first=True, fixed=4096),
    "spark2_5": Window(period=None),
    "step35": Window(period=None),
}
_EXAONE4_32B = Window(period=4, n_swa=4096)  # src/models/exaone4.cpp: only where there are 64 blocks

# recurrent in every block; falcon-h1 has attention in every block as well
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "falcon-h1"})
# a block with head_count_kv 0 is recurrent (nemotron_h: if its feed_forward_length is 0 too)
_RECURRENT_WITHOUT_KV_HEADS = frozenset(
    {
        "jamba",
        "plamo2",
        "granitehybrid",
        "lfm2",
        "lfm2moe",
        "kimi-linear",
        "kimi-k3",
        "glm5-next",
        "bailingmoe3",
        "nemotron_h",
        "nemotron_h_moe",
    }
)
# every n-th block has attention, the others are recurrent, unless the file has flags or an interval
_FULL_ATTENTION_EVERY = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
# create_memory gives these no cache: encoders and diffusion models read the whole text at once
_WITHOUT_KV = frozenset(
    {
        "bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "eurobert",
        "wavtokenizer-dec",
        "modern-bert",
        "gemma-embedding",
        "dream",
        "llada",
        "llada-moe",
        "rnd1",
    }
)


def window_of(architecture: str, n_main: int) -> Window | None:
    """Return the sliding window of an architecture with `n_main` blocks, MTP not counted."""
    if architecture == "exaone4" and n_main == 64:
        return _EXAONE4_32B
    return _WINDOWS.get(architecture)


def window_tokens(window: Window, n_swa_in_file: int | None) -> int | None:
    """Return the tokens in the window; None for full attention everywhere."""
    n_swa = window.n_swa if n_swa_in_file is None else n_swa_in_file
    if not n_swa:
        return None
    return window.fixed or n_swa


def sliding_blocks(n_block: int, n_main: int, period: int, *, full_first: bool) -> tuple[bool, ...]:
    """Tell which blocks slide (`llama_hparams::set_swa_pattern`); with period 0, all of them."""
    full = 0 if full_first else period - 1
    return tuple(block < n_main and (period == 0 or block % period != full) for block in range(n_block))


def recurrent_blocks(
    architecture: str,
    n_main: int,
    n_head_kv: tuple[int, ...],
    n_ff: tuple[int, ...],
    interval: int | None,
) -> tuple[bool, ...]:
    """Tell which blocks keep a recurrent state; `interval` is the file's full_attention_interval."""
    blocks = range(len(n_head_kv))
    if architecture in _RECURRENT:
        return tuple(True for _ in blocks)
    if architecture in _RECURRENT_WITHOUT_KV_HEADS:
        mlp_only = architecture.startswith("nemotron_h")
        return tuple(
            block < n_main and n_head_kv[block] == 0 and not (mlp_only and n_ff[block]) for block in blocks
        )
    if architecture in _FULL_ATTENTION_EVERY:
        every = interval or _FULL_ATTENTION_EVERY[architecture]
        return tuple(block < n_main and (block + 1) % every != 0 for block in blocks)
    return tuple(False for _ in blocks)


def cached_blocks(
    architecture: str,
    n_main: int,
    recurrent: tuple[bool, ...],
    n_ff: tuple[int, ...],
    n_shared: int,
) -> tuple[bool, ...]:
    """Tell which blocks keep keys and values of their own; the last `n_shared` reuse another block's."""
    blocks = range(len(recurrent))
    if architecture in _WITHOUT_KV or architecture in _RECURRENT - {"falcon-h1"}:
        return tuple(False for _ in blocks)
    last = n_main
    if architecture == "gemma3n":
        last = 20  # src/models/gemma3n.cpp: n_layer_kv_from_start
    elif architecture in {"gemma4", "gemma4-assistant"}:
        last = len(recurrent) - n_shared  # src/models/gemma4.cpp
    attention_only = architecture.startswith("nemotron_h")
    both = architecture == "falcon-h1"
    return tuple(
        block < last and (both or not recurrent[block]) and not (attention_only and n_ff[block])
        for block in blocks
    )
