"""Print how fast each GPU is copied to, by the engine's own copy from page-locked memory: a program.

    python -m launcher.machine.probe.links FOLDER    # of the engine's libraries

It runs by itself because it loads drivers, which take memory and may end a process.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_BYTES = 64 << 20  # of a copy: about the experts of a block
_SECONDS = 0.5  # for each device
_GPUS = frozenset({1, 2})  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU (ggml/include/ggml-backend.h, 0c1e570)
_I8 = 24  # GGML_TYPE_I8
_POINTERS = (
    "ggml_init",
    "ggml_new_tensor_1d",
    "ggml_backend_dev_get",
    "ggml_backend_dev_init",
    "ggml_backend_alloc_ctx_tensors",
    "ggml_backend_dev_host_buffer_type",
    "ggml_backend_buft_alloc_buffer",
    "ggml_backend_buffer_get_base",
)


class _InitParameters(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def measure_links(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each GPU by llama.cpp's name with the bytes/s of a copy to it; it is a process's only call.

    Raises OSError for libraries that cannot be loaded, AttributeError for those that have no such functions.
    """
    ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    ggml = ctypes.CDLL(str(folder / "libggml.so"), ctypes.RTLD_GLOBAL)  # finds its base's functions, too
    for name in _POINTERS:
        getattr(ggml, name).restype = ctypes.c_void_p
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    for index in range(ggml.ggml_backend_dev_count()):
        device = ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(index)))
        if ggml.ggml_backend_dev_type(device) in _GPUS:
            seconds = _seconds(ggml, device)
            if seconds is not None:
                yield ggml.ggml_backend_dev_name(device).decode(), round(_BYTES / seconds)


def _seconds(ggml: ctypes.CDLL, device: ctypes.c_void_p) -> float | None:
    """Return the least seconds of one copy; None where memory for it cannot be had."""
    backend = ctypes.c_void_p(ggml.ggml_backend_dev_init(device, None))
    context = ctypes.c_void_p(
        ggml.ggml_init(_InitParameters(mem_size=1 << 16, mem_buffer=None, no_alloc=True))
    )
    tensor = ctypes.c_void_p(ggml.ggml_new_tensor_1d(context, _I8, ctypes.c_int64(_BYTES)))
    source = _page_locked(ggml, device)
    if not backend or not ggml.ggml_backend_alloc_ctx_tensors(context, backend) or not source:
        return None
    least, end = float("inf"), time.monotonic() + _SECONDS
    while time.monotonic() < end:
        begun = time.perf_counter()
        ggml.ggml_backend_tensor_set(tensor, source, ctypes.c_size_t(0), ctypes.c_size_t(_BYTES))
        ggml.ggml_backend_synchronize(backend)
        least = min(least, time.perf_counter() - begun)
    return least


def _page_locked(ggml: ctypes.CDLL, device: ctypes.c_void_p) -> ctypes.c_void_p | None:
    """Return memory that the device's driver has page-locked, as load mode none has it."""
    kind = ggml.ggml_backend_dev_host_buffer_type(device)
    if not kind:
        return None
    buffer = ggml.ggml_backend_buft_alloc_buffer(ctypes.c_void_p(kind), ctypes.c_size_t(_BYTES))
    if not buffer:
        return None
    return ctypes.c_void_p(ggml.ggml_backend_buffer_get_base(ctypes.c_void_p(buffer)))


def main(folder: str) -> None:
    for name, rate in measure_links(Path(folder)):
        print(json.dumps([name, rate]), flush=True)  # noqa: T201  each by itself: a later one may be the end


if __name__ == "__main__":
    main(sys.argv[1])
