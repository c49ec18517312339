"""Architectures made of a few numbers."""

from __future__ import annotations

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo, Value


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name=name, shape=shape or (1,), type=GgmlType.F32, offset=0, size_bytes=4)


def read(name: str, *tensors: TensorInfo, **numbers: Value) -> Architecture:
    """Read an architecture from the numbers of a small model and those given (`a__b` is `a.b`)."""
    base: dict[str, Value] = {
        "block_count": 4,
        "context_length": 1000,
        "embedding_length": 64,
        "attention.head_count": 4,
    }
    base |= {key.replace("__", "."): value for key, value in numbers.items()}
    metadata = {f"{name}.{key}": value for key, value in base.items()} | {"general.architecture": name}
    return read_architecture(metadata, tensors)


def flags(pattern: str) -> tuple[bool, ...]:
    return tuple(character == "1" for character in pattern)
