"""Ask an engine's processor code which instructions it was compiled with, before it meets a foreign one.

A program says its version with the plainest of them, and ends at the first matrix. An engine whose code comes
in variants chooses among them itself; one with a single libggml-cpu has what its builder's processor had.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from launcher.system.run_program import output_of

# ggml_cpu_has_… (ggml/include/ggml-cpu.h) says what was compiled in: by the kernel's name for the processor's
# flag (Linux, arch/x86/include/asm/cpufeatures.h; arch/arm64/kernel/cpuinfo.c)
_FLAGS = {
    "ssse3": "ssse3", "avx": "avx", "avx_vnni": "avx_vnni", "avx2": "avx2", "bmi2": "bmi2", "f16c": "f16c",
    "fma": "fma", "avx512": "avx512f", "avx512_vbmi": "avx512vbmi", "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16", "amx_int8": "amx_int8", "dotprod": "asimddp", "matmul_int8": "i8mm",
    "fp16_va": "asimdhp", "sve": "sve", "sme": "sme",
}  # fmt: skip
_LIBRARIES = ("libggml-cpu.so.0", "libggml-cpu.so")


def compiled_flags(folder: Path) -> tuple[str, ...]:
    """Return the processor flags that an engine's code takes for granted; none if it chooses by itself."""
    if not any((folder / name).exists() for name in _LIBRARIES):
        return ()
    # in a process of its own: what its libraries do when they are loaded is theirs
    said = output_of(sys.executable, "-P", "-m", __name__, str(folder))
    return tuple(word for word in said.split()[: len(_FLAGS)] if word in _FLAGS.values())


def _print_flags(folder: Path) -> None:
    ctypes.CDLL(str(folder / "libggml-base.so.0"), mode=ctypes.RTLD_GLOBAL)
    name = next(name for name in _LIBRARIES if (folder / name).exists())
    library = ctypes.CDLL(str(folder / name))
    for feature, flag in _FLAGS.items():
        function = getattr(library, f"ggml_cpu_has_{feature}", None)
        if function is not None and function():
            sys.stdout.write(f"{flag}\n")


if __name__ == "__main__":
    _print_flags(Path(sys.argv[1]))
