"""Operations as the backends' rules see them, built by hand."""

from __future__ import annotations

import struct

from launcher.gguf.ggml import BLOCKS, GgmlType
from launcher.simulate.abi.ops import Op, Tensor

F16, F32, Q8_0 = GgmlType.F16, GgmlType.F32, GgmlType.Q8_0


def tensor(type_: GgmlType, *ne: int) -> Tensor:
    """Make a contiguous tensor, as ggml_new_tensor lays it out."""
    shape = (*ne, *(1,) * (4 - len(ne)))
    block, size = BLOCKS[type_]
    strides = [size, size * shape[0] // block]
    strides += [strides[-1] * shape[1], strides[-1] * shape[1] * shape[2]]
    return Tensor(type=type_, ne=shape, nb=tuple(strides))


def op(
    name: str, result: Tensor, *sources: Tensor | None, params: tuple[int, ...] = (), k_view: bool = False
) -> Op:
    """Make a node; `params` are its first op_params."""
    return Op(
        type=result.type,
        ne=result.ne,
        nb=result.nb,
        name=name,
        params=struct.pack(f"{len(params)}i", *params).ljust(64, b"\0"),
        flags=16,
        src=(*sources, *(None,) * (10 - len(sources))),
        v_is_k_view=k_view,
        offsets=(0,) * (sum(source is not None for source in sources) + 1),
    )


def product(weights: GgmlType, *, name: str = "MUL_MAT", x: GgmlType = F32) -> Op:
    """Multiply 512 tokens by a matrix, as llama.cpp asks to place a weight (weight_buft_supported)."""
    return op(
        name,
        tensor(F32, 512, 512),
        tensor(weights, 1024, 512),
        tensor(x, 1024, 512),
        tensor(GgmlType.I32, 8, 512),
    )


def attention(
    k: int, v: int, *, n_head: int = 64, n_head_kv: int = 8, cache: GgmlType = F16, k_view: bool = False
) -> Op:
    """Make a flash attention of 512 tokens over a cache of 4096, with a mask."""
    return op(
        "FLASH_ATTN_EXT",
        tensor(F32, v, n_head, 512),
        tensor(F32, k, 512, n_head),
        tensor(cache, k, 4096, n_head_kv),
        tensor(cache, v, 4096, n_head_kv),
        tensor(F16, 4096, 512),
        k_view=k_view,
    )
