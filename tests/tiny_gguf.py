"""The smallest GGUF files that are whole models: for what moves, lists or reads files, not for engines."""

from __future__ import annotations

import random
import struct

_UINT16, _UINT32, _INT32, _STRING = 2, 4, 5, 8
_F32 = 0
_ALIGNMENT = 32


def tiny_gguf(*, n_values: int = 1024, seed: int = 0, shard: tuple[int, int] | None = None) -> bytes:
    """One F32 tensor of `n_values` random values. `shard` is (index from 0, count): then it is one of a split."""
    index, count = shard or (0, 1)
    metadata = [_pair("general.architecture", _STRING, _string("llama"))] if index == 0 else []
    if shard is not None:
        metadata += [
            _pair("split.no", _UINT16, struct.pack("<H", index)),
            _pair("split.count", _UINT16, struct.pack("<H", count)),
            _pair("split.tensors.count", _INT32, struct.pack("<i", count)),
        ]
    tensor = _string(f"blk.{index}.weight") + struct.pack("<IQIQ", 1, n_values, _F32, 0)
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(metadata)) + b"".join(metadata) + tensor
    header += bytes(-len(header) % _ALIGNMENT)
    weights = random.Random(seed + index).randbytes(4 * n_values)
    return header + weights + bytes(-len(weights) % _ALIGNMENT)


def tiny_split(stem: str, count: int, *, n_values: int = 1024, seed: int = 0) -> dict[str, bytes]:
    """The shards of one model by file name."""
    return {
        f"{stem}-{index + 1:05d}-of-{count:05d}.gguf": tiny_gguf(
            n_values=n_values, seed=seed, shard=(index, count)
        )
        for index in range(count)
    }


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value
