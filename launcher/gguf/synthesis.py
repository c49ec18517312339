"""Make a GGUF header from published shapes and a type for each tensor, to plan without the files.

If a quant's types are not published, `assign_types` assumes a mix that meets the file's total size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.errors import BadGguf
from launcher.gguf.ggml import BLOCKS, GgmlType, tensor_bytes
from launcher.gguf.header import MAX_TENSORS
from launcher.gguf.metadata import MetadataScalar, ValueType
from launcher.gguf.tensors import pad

_MOST_RULES = 64  # each is tried on every tensor; the shipped ones have at most 15
_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, ggml/include/gguf.h

MetadataValue = MetadataScalar | tuple[int, ...] | tuple[bool, ...]

# tensor_type_fallback, src/llama-quant.cpp: for rows that are no multiple of 256; F16 where that fails, too
_INSTEAD = {
    GgmlType.TQ1_0: GgmlType.Q4_0,
    GgmlType.TQ2_0: GgmlType.Q4_0,
    GgmlType.Q4_K: GgmlType.Q5_0,
    GgmlType.Q5_K: GgmlType.Q5_1,
    GgmlType.Q6_K: GgmlType.Q8_0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFamily:
    """Tensors of one shape in blocks `first` to `last`, both included."""

    name: str  # with {} for the number of the block; a name without is one tensor
    shape: tuple[int, ...]
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRule:
    match: str  # pattern, searched in the name
    types: tuple[GgmlType, ...]  # the first, or a later one if a total size must be met


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedTensor:
    name: str
    shape: tuple[int, ...]
    type: GgmlType
    rule: int  # index of the rule that gave the type

    @property
    def size_bytes(self) -> int:
        return tensor_bytes(self.shape, self.type)


def assign_types(families: Iterable[TensorFamily], rules: Sequence[TypeRule]) -> tuple[TypedTensor, ...]:
    """Give every tensor the first type of the first rule that matches its name.

    Raises BadGguf for a tensor that no rule matches.
    """
    tensors: list[TypedTensor] = []
    if len(rules) > _MOST_RULES:
        raise BadGguf(f"this recipe has {len(rules)} rules, and {_MOST_RULES} are the most")
    patterns = [re.compile(rule.match) for rule in rules]
    for family in families:
        for name in _names(family):
            rule = next((index for index, pattern in enumerate(patterns) if pattern.search(name)), None)
            if rule is None:
                raise BadGguf(f"no rule of this recipe gives {name} a type")
            if len(tensors) >= MAX_TENSORS:
                raise BadGguf(f"this recipe makes more than the {MAX_TENSORS} tensors that a header may have")
            smallest = type_for(family.shape, rules[rule].types[0])
            tensors.append(TypedTensor(name=name, shape=family.shape, type=smallest, rule=rule))
    return tuple(tensors)


def raise_types(
    smallest: Iterable[TypedTensor], rules: Sequence[TypeRule], total_bytes: int
) -> tuple[TypedTensor, ...]:
    """Give tensors whose rule has several types a larger one, as long as the sum stays within the total.

    In the order of the rules and the file. Raises BadGguf for a total that even the smallest types exceed.
    """
    tensors = list(smallest)
    left = total_bytes - sum(pad(tensor.size_bytes, _ALIGNMENT) for tensor in tensors)
    if left < 0:
        raise BadGguf(f"this recipe's smallest types take {-left} bytes more than the file's {total_bytes}")
    by_rule: dict[int, list[int]] = {}  # indices of tensors by index of the rule
    for index, tensor in enumerate(tensors):
        by_rule.setdefault(tensor.rule, []).append(index)
    for rule_index, type_rule in enumerate(rules):
        left = _raise_each(tensors, by_rule.get(rule_index, ()), type_rule.types[1:], left)
    return tuple(tensors)


def _raise_each(
    tensors: list[TypedTensor], indices: Sequence[int], types: Iterable[GgmlType], left: int
) -> int:
    """Give tensors larger types while `left` bytes allow it; return the bytes that are left then."""
    for type_ in types:
        for index in indices:
            raised = replace(tensors[index], type=type_for(tensors[index].shape, type_))
            step = raised.size_bytes - tensors[index].size_bytes
            if 0 < step <= left:
                tensors[index] = raised
                left -= step
    return left


def type_for(shape: tuple[int, ...], wanted: GgmlType) -> GgmlType:
    """Return the type that llama-quantize gives a tensor of this shape in place of `wanted`."""
    if shape[0] % BLOCKS[wanted][0] == 0:
        return wanted
    instead = _INSTEAD.get(wanted, GgmlType.IQ4_NL)
    return instead if shape[0] % BLOCKS[instead][0] == 0 else GgmlType.F16


def header_bytes(metadata: Iterable[tuple[str, MetadataValue]], tensors: Sequence[TypedTensor]) -> bytes:
    """Return the header of a file with these tensors, padded to where their data would begin.

    Raises BadGguf for a number that no GGUF file can hold.
    """
    pairs = list(metadata)
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
    named = ""
    try:
        for named, value in pairs:
            out += _text(named) + _typed(value)
        offset = 0
        for tensor in tensors:
            named = tensor.name
            out += _text(named) + struct.pack("<I", len(tensor.shape))
            out += struct.pack(f"<{len(tensor.shape)}q", *tensor.shape)
            out += struct.pack("<iQ", tensor.type, offset)
            offset = pad(offset + tensor.size_bytes, _ALIGNMENT)
    except (struct.error, OverflowError) as error:
        raise BadGguf(f"{named} has a number that no GGUF file can hold") from error
    return bytes(out) + bytes(-len(out) % _ALIGNMENT)


def _names(family: TensorFamily) -> Iterator[str]:
    # one by one: who asks for two thousand million blocks is stopped by the number of tensors
    if "{}" not in family.name:
        return iter((family.name,))
    return (family.name.replace("{}", str(block)) for block in range(family.first, family.last + 1))


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: MetadataValue) -> bytes:
    if isinstance(value, tuple):
        flags = all(isinstance(item, bool) for item in value)
        items, letter = (ValueType.BOOL, "?") if flags else (ValueType.I32, "i")
        return struct.pack(f"<iiQ{len(value)}{letter}", ValueType.ARRAY, items, len(value), *value)
    if isinstance(value, bool):
        return struct.pack("<i?", ValueType.BOOL, value)
    if isinstance(value, int):
        return struct.pack("<iI", ValueType.U32, value)
    if isinstance(value, float):
        return struct.pack("<if", ValueType.F32, value)
    return struct.pack("<i", ValueType.STRING) + _text(value)
