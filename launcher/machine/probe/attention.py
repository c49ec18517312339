"""Print how fast one core attends to cached tokens, by the engine's own flash attention: a program.

    python -m launcher.machine.probe.attention FOLDER    # of the engine's libraries

It runs by itself because a kernel that this processor cannot run ends the process.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from launcher.gguf.ggml import GgmlType
from launcher.machine.measured import attention_key

_CACHE_TYPES = (GgmlType.F16, GgmlType.BF16, GgmlType.Q8_0, GgmlType.Q4_0)
_HEADS = ((64, 64), (128, 128), (256, 256), (576, 512))  # values of a key, of a value; the last are MLA's
_HEADS_NEAR, _TOKENS_NEAR = 8, 512  # query heads on one head of the cache: it stays in the core's own cache
_HEADS_FAR, _TOKENS_FAR = 4, 2048  # each with a head of its own, side by side in a row as in a model
_FAR_BYTES = 64 << 20  # of caches in turn: more than any core finds in its last-level cache
_SECONDS = 0.06  # of each measurement: all 32 are to end within the time that `measure` gives this program
_MOST_CALLS = 200  # in that time, so that their work buffers have room
_SPARE = _MOST_CALLS << 20  # each call leaves its work buffer in the context, most of it never written


class _InitParams(ctypes.Structure):  # struct ggml_init_params (ggml/include/ggml.h, 0c1e570)
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    kind: GgmlType
    key: int  # values of a head
    value: int
    heads: int
    kv_heads: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Library:
    base: ctypes.CDLL
    cpu: ctypes.CDLL

    def tensor(self, context: int, kind: GgmlType, *sizes: int) -> int:
        """Return a new tensor of bytes that are ordinary numbers in each type."""
        padded = (*sizes, 1, 1, 1, 1)[:4]
        tensor = self.base.ggml_new_tensor_4d(context, kind.value, *map(ctypes.c_int64, padded))
        ctypes.memset(self.base.ggml_get_data(tensor), 0x11, self.base.ggml_nbytes(tensor))
        return int(tensor)


def measure_attention(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield, by `attention_key`, the cached tokens of a head that a core attends to in a second.

    Raises OSError for libraries that cannot be loaded, AttributeError for those that have no such functions.
    """
    library = _load(folder)
    for kind in _CACHE_TYPES:  # the usual one first: there may be no time for all
        for key, value in _HEADS:
            near = _Shape(kind=kind, key=key, value=value, heads=_HEADS_NEAR, kv_heads=1, tokens=_TOKENS_NEAR)
            far_heads = 1 if value < key else _HEADS_FAR
            far = _Shape(
                kind=kind, key=key, value=value, heads=far_heads, kv_heads=far_heads, tokens=_TOKENS_FAR
            )
            size = (key + value) // 2
            yield attention_key(kind.name, size, far=False), round(1 / _seconds(library, near, 0))
            yield attention_key(kind.name, size, far=True), round(1 / _seconds(library, far, _FAR_BYTES))


def _load(folder: Path) -> _Library:
    base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"))
    pointer, whole, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
    cpu.ggml_cpu_init()
    cpu.ggml_graph_compute_with_ctx.argtypes = (pointer, pointer, ctypes.c_int)
    for name, result, arguments in (
        ("ggml_init", pointer, (_InitParams,)),
        ("ggml_free", None, (pointer,)),
        ("ggml_get_data", pointer, (pointer,)),
        ("ggml_nbytes", size, (pointer,)),
        ("ggml_row_size", size, (ctypes.c_int, whole)),
        ("ggml_new_tensor_4d", pointer, (pointer, ctypes.c_int, whole, whole, whole, whole)),
        ("ggml_view_4d", pointer, (pointer, pointer, whole, whole, whole, whole, size, size, size, size)),
        ("ggml_flash_attn_ext", pointer, (*(pointer,) * 5, *(ctypes.c_float,) * 3)),
        ("ggml_new_graph", pointer, (pointer,)),
        ("ggml_build_forward_expand", None, (pointer, pointer)),
    ):
        function = getattr(base, name)
        function.restype, function.argtypes = result, arguments
    return _Library(base=base, cpu=cpu)


def _seconds(library: _Library, shape: _Shape, spread: int) -> float:
    """Return the seconds for one cached token of a head, over caches of `spread` bytes in turn."""
    row = library.base.ggml_row_size(shape.kind.value, shape.key * shape.kv_heads)
    n_caches = max(1, math.ceil(spread / (2 * row * shape.tokens)))
    n_bytes = n_caches * (2 * row * shape.tokens + (1 << 20)) + _SPARE
    context = library.base.ggml_init(_InitParams(n_bytes, None, False))
    try:
        graphs = [_graph(library, context, shape) for _ in range(n_caches)]
        library.cpu.ggml_graph_compute_with_ctx(context, graphs[0], 1)
        took, end = [], time.monotonic() + _SECONDS
        for calls, graph in enumerate(cycle(graphs)):
            if calls >= _MOST_CALLS or (calls >= n_caches + 8 and time.monotonic() > end):
                break
            begun = time.perf_counter()
            library.cpu.ggml_graph_compute_with_ctx(context, graph, 1)
            took.append(time.perf_counter() - begun)
        # What else runs here makes a call longer; the very least found its cache by luck.
        return sorted(took)[len(took) // 5] / (shape.heads * shape.tokens)
    finally:
        library.base.ggml_free(context)


def _graph(library: _Library, context: int, shape: _Shape) -> int:
    """Return a graph of one new token's attention (build_attn_mha, llama-graph.cpp)."""
    base = library.base
    query = library.tensor(context, GgmlType.F32, shape.key, 1, shape.heads)
    mask = library.tensor(context, GgmlType.F16, shape.tokens, 1)
    ctypes.memset(base.ggml_get_data(mask), 0, base.ggml_nbytes(mask))
    keys = library.tensor(context, shape.kind, shape.key * shape.kv_heads, shape.tokens)
    is_mla = shape.value < shape.key  # its values are the first part of the keys
    values = (
        keys if is_mla else library.tensor(context, shape.kind, shape.value * shape.kv_heads, shape.tokens)
    )
    heads = []
    for tensor, size in ((keys, shape.key), (values, shape.value)):
        row = base.ggml_row_size(shape.kind.value, (shape.key if is_mla else size) * shape.kv_heads)
        part = base.ggml_row_size(shape.kind.value, size)
        sizes = (size, shape.tokens, shape.kv_heads, 1)
        heads.append(base.ggml_view_4d(context, tensor, *sizes, row, part, row * shape.tokens, 0))
    scale = 1 / math.sqrt(shape.key)
    out = base.ggml_flash_attn_ext(context, query, *heads, mask, scale, 0.0, 0.0)
    graph = base.ggml_new_graph(context)
    base.ggml_build_forward_expand(graph, out)
    return int(graph)


def main(folder: str) -> None:
    for name, rate in measure_attention(Path(folder)):
        print(json.dumps([name, rate]), flush=True)  # noqa: T201  each by itself: a later one may be the end


if __name__ == "__main__":
    main(sys.argv[1])
