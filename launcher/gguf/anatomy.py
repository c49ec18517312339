"""What a model is made of: parameters, bytes by kind, what one token reads, and the quant as the tensors are.

File names and `general.file_type` are claims; the ggml types of the tensors are facts, and a disagreement is
reported. Tensor names: LLM_TENSOR_NAMES, src/llama-arch.cpp, llama.cpp 0c1e570.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo, Value
from launcher.gguf.names import quant_label
from launcher.gguf.quants import default_type, file_type_label, mix_label


class Kind(StrEnum):
    """What a tensor is for. ATTENTION has the weights of attention and its indexer; norms, biases, routers and
    whatever has no row of its own are REST; MTP is everything in the prediction blocks at the end, which a plain
    decode does not read."""

    ROUTED_EXPERTS = "routed experts"
    SHARED_EXPERT = "shared expert"
    DENSE_FFN = "dense ffn"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    EMBEDDING = "embedding"
    OUTPUT = "output"
    MTP = "mtp"
    REST = "norms and the rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor, what it is for and the block it belongs to (None: outside the blocks)."""

    tensor: TensorInfo
    kind: Kind
    block: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """`n_params_active` counts both embedding tables, as model cards do, and of the routed experts those that one
    token uses. `bytes_per_token` are the weights a token makes the machine read: without the input embedding (one
    row of it), unless it serves as the output layer too. `types` are bytes by ggml type, most first; `quant` is
    the mix they make, `named` what the file name claims, `file_type` what the metadata claim."""

    architecture: Architecture
    parts: tuple[Part, ...]
    n_params: int
    n_params_active: int
    weight_bytes: int
    bytes_by_kind: Mapping[Kind, int]
    bytes_per_token: int
    types: tuple[tuple[GgmlType, int], ...]
    bits_per_weight: float
    quant: str
    named: str | None
    file_type: str | None
    disagreements: tuple[str, ...]


_BLOCK = re.compile(r"(?:enc\.|dec\.)?blk\.(?P<block>\d{1,4})\.(?P<rest>.+)")
_KINDS = (
    (re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps\.weight"), Kind.ROUTED_EXPERTS),
    (re.compile(r"ffn_(?:up|down|gate)\.\d+\.weight"), Kind.ROUTED_EXPERTS),
    (re.compile(r"ffn_(?:up|down|gate)_shexp\.weight"), Kind.SHARED_EXPERT),
    (re.compile(r"ffn_(?:up|down|gate|latent_\w+|routed_\w+)\.weight"), Kind.DENSE_FFN),
    (re.compile(r"(?!.*norm).*(?:attn_|indexer).*\.weight"), Kind.ATTENTION),
    (re.compile(r"(?!.*norm)(?:ssm_|time_mix_|channel_mix_|shortconv\.).*"), Kind.RECURRENT),
)
"""Weights inside a block by their names; the first that matches counts. The second row are the unmerged experts
of old Mixtral files (`blk.0.ffn_up.7.weight`)."""

_EMBEDDINGS = re.compile(r"(?:token_embd|position_embd|token_types|per_layer_token_embd)\.weight")
_OUTPUTS = re.compile(r"(?:output|cls|cls\.output)\.(?:weight|bias)")


def block_of(name: str) -> int | None:
    """The block a tensor belongs to by its name, None outside the blocks."""
    match = _BLOCK.fullmatch(name)
    return None if match is None else int(match["block"])


def kind_of(name: str, n_main: int) -> Kind:
    """What a tensor is for; blocks from `n_main` on are MTP."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        if _EMBEDDINGS.fullmatch(name):
            return Kind.EMBEDDING
        return Kind.OUTPUT if _OUTPUTS.fullmatch(name) else Kind.REST
    if int(match["block"]) >= n_main:
        return Kind.MTP
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(match["rest"])), Kind.REST)


def dissect(
    metadata: Mapping[str, Value], tensors: tuple[TensorInfo, ...], *, file_name: str | None = None
) -> Anatomy:
    """Take a model apart: the first shard's metadata, the tensors of all shards, the name of its first file.

    Raises BadGguf for metadata that llama.cpp would refuse (see `read_architecture`).
    """
    architecture = read_architecture(metadata, tensors)
    parts = tuple(
        Part(tensor=tensor, kind=kind_of(tensor.name, architecture.n_main), block=block_of(tensor.name))
        for tensor in tensors
    )
    n_params = sum(math.prod(tensor.shape) for tensor in tensors)
    weight_bytes = sum(tensor.size_bytes for tensor in tensors)
    types = _types(parts)
    quant = mix_label(_bulk_types(parts))
    named = None if file_name is None else quant_label(file_name)
    file_type = file_type_label(metadata.get("general.file_type"))
    return Anatomy(
        architecture=architecture,
        parts=parts,
        n_params=n_params,
        n_params_active=sum(_active(part, math.prod(part.tensor.shape), architecture) for part in parts),
        weight_bytes=weight_bytes,
        bytes_by_kind=_bytes_by_kind(parts),
        bytes_per_token=_bytes_per_token(parts, architecture),
        types=types,
        bits_per_weight=weight_bytes * 8 / n_params if n_params else 0.0,
        quant=quant,
        named=named,
        file_type=file_type,
        disagreements=_disagreements(parts, quant, named, file_type),
    )


def _active(part: Part, amount: int, architecture: Architecture) -> int:
    """Of `amount` (parameters or bytes) of a tensor, what one token uses."""
    if part.kind is Kind.MTP:
        return 0
    if part.kind is not Kind.ROUTED_EXPERTS or part.block is None or not architecture.n_expert:
        return amount
    return amount * architecture.n_expert_used[part.block] // architecture.n_expert


def _bytes_per_token(parts: tuple[Part, ...], architecture: Architecture) -> int:
    total = 0
    for part in parts:
        is_tied_output = part.tensor.name == "token_embd.weight" and not architecture.has_output_tensor
        if part.kind is not Kind.EMBEDDING or is_tied_output:
            total += _active(part, part.tensor.size_bytes, architecture)
    return total


def _bytes_by_kind(parts: tuple[Part, ...]) -> dict[Kind, int]:
    amounts = dict.fromkeys(Kind, 0)
    for part in parts:
        amounts[part.kind] += part.tensor.size_bytes
    return {kind: amount for kind, amount in amounts.items() if amount}


def _types(parts: tuple[Part, ...]) -> tuple[tuple[GgmlType, int], ...]:
    amounts: dict[GgmlType, int] = {}
    for part in parts:
        amounts[part.tensor.type] = amounts.get(part.tensor.type, 0) + part.tensor.size_bytes
    return tuple(sorted(amounts.items(), key=lambda item: (-item[1], item[0])))


def _bulk_types(parts: tuple[Part, ...]) -> dict[GgmlType, int]:
    """Parameters by type over the matrices a quantizer's mix is about: embedding and output are chosen apart
    (`llama_tensor_get_type`, src/llama-quant.cpp), norms stay F32."""
    matrices = [part for part in parts if len(part.tensor.shape) > 1 and part.kind is not Kind.REST]
    inner = [part for part in matrices if part.kind not in {Kind.EMBEDDING, Kind.OUTPUT}]
    amounts: dict[GgmlType, int] = {}
    for part in inner or matrices or parts:
        type_ = part.tensor.type
        amounts[type_] = amounts.get(type_, 0) + math.prod(part.tensor.shape)
    return amounts


def _disagreements(
    parts: tuple[Part, ...], quant: str, named: str | None, file_type: str | None
) -> tuple[str, ...]:
    bulk = _bulk_types(parts)
    if not bulk:
        return ()
    dominant = max(bulk, key=lambda type_: (bulk[type_], type_))
    share = round(100 * bulk[dominant] / max(1, sum(bulk.values())))
    sentences = []
    for what, label in (("file name", named), ("general.file_type", file_type)):
        expected = None if label is None else default_type(label)
        if expected is not None and expected is not dominant:
            sentences.append(
                f"the {what} says {label}, and {share} % of the block weights are {dominant.name} ({quant})"
            )
    return tuple(sentences)
