"""Say what a tensor is for, and which block it belongs to, by its name."""

# Source: LLM_TENSOR_NAMES, src/llama-arch.cpp, llama.cpp 0c1e570.

from __future__ import annotations

import re
from enum import StrEnum


class TensorKind(StrEnum):
    """The purpose of a tensor."""

    ROUTED_EXPERTS = "routed experts"
    SHARED_EXPERT = "shared expert"
    DENSE_FFN = "dense ffn"
    ATTENTION = "attention"  # the indexer's weights too
    RECURRENT = "recurrent"
    EMBEDDING = "embedding"
    OUTPUT = "output"
    MTP = "mtp"  # everything in the prediction blocks at the end, which a plain decode does not read
    REST = "norms and the rest"  # biases and routers too


# As `tn` writes numbers (LLM_TN_IMPL::str): "blk.00." and digits of other scripts are no block.
_BLOCK = re.compile(r"(?:enc\.|dec\.)?blk\.(?P<block>0|[1-9][0-9]{0,8})\.")

# patterns of the names inside a block; the first that matches counts
_KINDS = (
    (re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps\.weight"), TensorKind.ROUTED_EXPERTS),
    # unmerged experts of old Mixtral files: blk.0.ffn_up.7.weight
    (re.compile(r"ffn_(?:up|down|gate)\.[0-9]+\.weight"), TensorKind.ROUTED_EXPERTS),
    (re.compile(r"ffn_(?:up|down|gate)_shexp\.weight"), TensorKind.SHARED_EXPERT),
    (re.compile(r"ffn_(?:up|down|gate|latent_\w+|routed_\w+)\.weight", re.ASCII), TensorKind.DENSE_FFN),
    (re.compile(r"(?!.*norm)(?=.*(?:attn_|indexer)).*\.weight"), TensorKind.ATTENTION),
    (re.compile(r"(?!.*norm)(?:ssm_|time_mix_|channel_mix_|shortconv\.).*"), TensorKind.RECURRENT),
)
_EMBEDDINGS = re.compile(r"(?:token_embd|position_embd|token_types|per_layer_token_embd)\.weight")
_OUTPUTS = re.compile(r"(?:output|cls|cls\.output)\.(?:weight|bias)")


def block_of(name: str) -> int | None:
    """Return the number of the block that a tensor belongs to; None for a tensor outside the blocks."""
    match = _BLOCK.match(name)
    return None if match is None else int(match["block"])


def kind_of(name: str, n_main: int) -> TensorKind:
    """Classify a tensor by its name; blocks from `n_main` on are MTP."""
    match = _BLOCK.match(name)
    if match is None:
        if _EMBEDDINGS.fullmatch(name):
            return TensorKind.EMBEDDING
        return TensorKind.OUTPUT if _OUTPUTS.fullmatch(name) else TensorKind.REST
    if int(match["block"]) >= n_main:
        return TensorKind.MTP
    rest = name[match.end() :]
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(rest)), TensorKind.REST)
