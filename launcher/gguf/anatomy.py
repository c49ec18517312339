"""Take a model apart: parameters, bytes by kind, what one token reads, and its quant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.file_names import quant_label
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo, Value
from launcher.gguf.quants import default_type, file_type_label, mix_label
from launcher.gguf.tensor_names import TensorKind, block_of, kind_of

_LOOKUP_TABLE = "per_layer_token_embd.weight"  # as model cards do, a table of rows counts by what is read


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedTensor:
    """One tensor with its kind and the block it belongs to (None: outside the blocks)."""

    info: TensorInfo
    kind: TensorKind
    block: int | None

    @property
    def n_params(self) -> int:
        return math.prod(self.info.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Everything that a model's headers tell about its weights."""

    architecture: Architecture
    tensors: tuple[ClassifiedTensor, ...]
    n_params: int
    n_params_active: int  # as model cards count: see `_active`
    weight_bytes: int
    bytes_by_kind: Mapping[TensorKind, int]
    bytes_per_token: int  # weights read for one token
    types: tuple[tuple[GgmlType, int], ...]  # bytes by ggml type, most first
    bits_per_weight: float
    quant: str  # the mix that `types` make
    named: str | None  # the quant that the file name claims
    file_type: str | None  # the quant that the metadata claim
    disagreements: tuple[str, ...]

    @property
    def n_expert_shared(self) -> int | None:
        """Shared experts a block; many architectures have one and no metadata about it."""
        if self.architecture.n_expert_shared is not None:
            return self.architecture.n_expert_shared
        return 1 if any(tensor.kind is TensorKind.SHARED_EXPERT for tensor in self.tensors) else None


def dissect(
    metadata: Mapping[str, Value], tensors: tuple[TensorInfo, ...], *, file_name: str | None = None
) -> Anatomy:
    """Take apart a model, given the first shard's metadata and name and the tensors of all shards.

    Raises BadGguf for metadata that llama.cpp would refuse (see `read_architecture`).
    """
    architecture = read_architecture(metadata, tensors)
    classified = tuple(
        ClassifiedTensor(
            info=tensor, kind=kind_of(tensor.name, architecture.n_main), block=block_of(tensor.name)
        )
        for tensor in tensors
    )
    n_params = sum(tensor.n_params for tensor in classified)
    weight_bytes = sum(tensor.size_bytes for tensor in tensors)
    bulk = _bulk_types(classified)
    quant = mix_label(bulk)
    named = None if file_name is None else quant_label(file_name)
    file_type = file_type_label(metadata.get("general.file_type"))
    return Anatomy(
        architecture=architecture,
        tensors=classified,
        n_params=n_params,
        n_params_active=sum(_active(tensor, tensor.n_params, architecture) for tensor in classified),
        weight_bytes=weight_bytes,
        bytes_by_kind=_bytes_by_kind(classified),
        bytes_per_token=_bytes_per_token(classified, architecture),
        types=_bytes_by_type(tensors),
        bits_per_weight=weight_bytes * 8 / n_params if n_params else 0.0,
        quant=quant,
        named=named,
        file_type=file_type,
        # File names and `general.file_type` are claims; the ggml types of the tensors are facts.
        disagreements=_disagreements(bulk, quant, named, file_type),
    )


def _active(tensor: ClassifiedTensor, amount: int, architecture: Architecture) -> int:
    """Scale `amount` (parameters or bytes of a tensor) down to what one token uses."""
    # As model cards count: both embedding tables whole, the routed experts and the table rows one token uses.
    if tensor.kind is TensorKind.MTP:
        return 0
    if tensor.info.name == _LOOKUP_TABLE:
        return amount // max(1, tensor.info.shape[-1])  # a row of it
    if tensor.kind is not TensorKind.ROUTED_EXPERTS or tensor.block is None or not architecture.n_expert:
        return amount
    return amount * architecture.n_expert_used[tensor.block] // architecture.n_expert


def _bytes_per_token(tensors: tuple[ClassifiedTensor, ...], architecture: Architecture) -> int:
    total = 0
    for tensor in tensors:
        # of the input embedding a token reads one row, unless it serves as the output layer too
        is_tied_output = tensor.info.name == "token_embd.weight" and not architecture.has_output_tensor
        if tensor.kind is not TensorKind.EMBEDDING or is_tied_output:
            total += _active(tensor, tensor.info.size_bytes, architecture)
    return total


def _bytes_by_kind(tensors: tuple[ClassifiedTensor, ...]) -> dict[TensorKind, int]:
    amounts = dict.fromkeys(TensorKind, 0)
    for tensor in tensors:
        amounts[tensor.kind] += tensor.info.size_bytes
    return {kind: amount for kind, amount in amounts.items() if amount}


def _bytes_by_type(tensors: tuple[TensorInfo, ...]) -> tuple[tuple[GgmlType, int], ...]:
    amounts: dict[GgmlType, int] = {}
    for tensor in tensors:
        amounts[tensor.type] = amounts.get(tensor.type, 0) + tensor.size_bytes
    return tuple(sorted(amounts.items(), key=lambda item: (-item[1], item[0])))


def _bulk_types(tensors: tuple[ClassifiedTensor, ...]) -> dict[GgmlType, int]:
    """Count parameters by type over the matrices inside the blocks, which name a quantizer's mix."""
    # llama_tensor_get_type (src/llama-quant.cpp) chooses embedding and output apart; norms stay F32
    matrices = [
        tensor for tensor in tensors if len(tensor.info.shape) > 1 and tensor.kind is not TensorKind.REST
    ]
    inner = [tensor for tensor in matrices if tensor.kind not in {TensorKind.EMBEDDING, TensorKind.OUTPUT}]
    amounts: dict[GgmlType, int] = {}
    for tensor in inner or matrices or tensors:
        type_ = tensor.info.type
        amounts[type_] = amounts.get(type_, 0) + tensor.n_params
    return amounts


def _disagreements(
    bulk: Mapping[GgmlType, int], quant: str, named: str | None, file_type: str | None
) -> tuple[str, ...]:
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
