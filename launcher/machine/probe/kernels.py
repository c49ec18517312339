"""Print how fast one core multiplies weights of each type, by the engine's own kernels: a program.

    python -m launcher.machine.probe.kernels FOLDER    # of the engine's libraries

It runs by itself because a kernel that this processor cannot run ends the process.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.gguf.ggml import GgmlType

_VALUES = 1 << 20  # of a row: 0.3 to 2 MB of weights, so that the call itself is a hundredth
_SECONDS = 0.1  # for each type
# Those of published quants; each type has kernels in every llama.cpp of the last two years but the last.
_TYPES = (
    GgmlType.F16, GgmlType.BF16, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q5_0, GgmlType.Q5_1,
    GgmlType.Q8_0, GgmlType.Q2_K, GgmlType.Q3_K, GgmlType.Q4_K, GgmlType.Q5_K, GgmlType.Q6_K,
    GgmlType.IQ1_S, GgmlType.IQ1_M, GgmlType.IQ2_XXS, GgmlType.IQ2_XS, GgmlType.IQ2_S,
    GgmlType.IQ3_XXS, GgmlType.IQ3_S, GgmlType.IQ4_NL, GgmlType.IQ4_XS, GgmlType.MXFP4,
)  # fmt: skip

# ggml_vec_dot_t and struct ggml_type_traits_cpu (ggml/include/ggml-cpu.h, 0c1e570)
_VecDot = ctypes.CFUNCTYPE(
    None,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
)


class _Traits(ctypes.Structure):
    _fields_ = (
        ("from_float", ctypes.c_void_p),
        ("vec_dot", ctypes.c_void_p),
        ("vec_dot_type", ctypes.c_int),
        ("n_rows", ctypes.c_int64),
    )


def measure_kernels(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each type with the bytes/s of its product with a row; nothing where there is no library.

    Raises OSError for libraries that cannot be loaded, AttributeError for those that have no such functions.
    """
    base = ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"))
    cpu.ggml_cpu_init()
    cpu.ggml_get_type_traits_cpu.restype = ctypes.POINTER(_Traits)
    base.ggml_row_size.restype = ctypes.c_size_t
    base.ggml_row_size.argtypes = (ctypes.c_int, ctypes.c_int64)
    for kind in _TYPES:
        traits = cpu.ggml_get_type_traits_cpu(kind.value).contents
        if traits.vec_dot:
            n_bytes = base.ggml_row_size(kind.value, _VALUES)
            n_other = base.ggml_row_size(traits.vec_dot_type, _VALUES)
            yield kind.name, round(n_bytes / _seconds(_VecDot(traits.vec_dot), n_bytes, n_other))


def _seconds(vec_dot: object, n_bytes: int, n_other: int) -> float:
    """Return the least seconds of one product: what else runs here makes it longer, never shorter."""
    weights = ctypes.create_string_buffer(b"\x11" * n_bytes, n_bytes)
    others = ctypes.create_string_buffer(b"\x11" * n_other, n_other)
    places = ctypes.addressof(weights), ctypes.addressof(others)
    result = ctypes.c_float()
    least, end = 1.0, time.monotonic() + _SECONDS
    while time.monotonic() < end:
        begun = time.perf_counter()
        vec_dot(_VALUES, ctypes.addressof(result), 0, places[0], 0, places[1], 0, 1)  # type: ignore[operator]
        least = min(least, time.perf_counter() - begun)
    return least


def main(folder: str) -> None:
    for name, rate in measure_kernels(Path(folder)):
        print(json.dumps([name, rate]), flush=True)  # noqa: T201  each by itself: a later one may be the end


if __name__ == "__main__":
    main(sys.argv[1])
