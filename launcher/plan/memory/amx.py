"""Size the layouts in which a processor with AMX keeps matrices while it computes alone. Pure.

As ggml/src/ggml-cpu/amx at llama.cpp 0c1e570: amx.cpp, supports_op, and mmq.cpp, get_row_size.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.machine.machine import Cpu

TYPES = frozenset(
    GgmlType[name] for name in ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "F16")
)
"""Types that it has kernels for; with them they are laid out anew."""

# (values of a block, bytes more for each): sums for Q8_0's signs, scales that are unpacked
_MORE = {
    GgmlType.Q8_0: (32, 4),
    GgmlType.Q4_K: (256, 4),
    GgmlType.Q5_K: (256, 4),
    GgmlType.IQ4_XS: (256, 2),
}
_ROWS = 32  # the output has a multiple of them


def has_amx(cpu: Cpu) -> bool:
    return {"AMX_INT8", "AVX512_VNNI"} <= set(cpu.isa)


def more_bytes(tensors: Iterable[TensorInfo]) -> int:
    """Sum what the layouts of these matrices take beyond the file's."""
    return sum(_more(tensor) for tensor in tensors if len(tensor.shape) == 2)


def _more(tensor: TensorInfo) -> int:
    values, more = _MORE.get(tensor.type, (1, 0))
    columns, rows = tensor.shape
    return 0 if rows % _ROWS else rows * (columns // values) * more
