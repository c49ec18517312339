"""Tell which GPU toolkits are installed, at no cost: every command that looks for an engine asks."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from launcher.system.run_program import output_of

# Where toolkits install themselves: programs in bin, headers in include.
PREFIXES = tuple(
    map(Path, ("/usr", "/usr/local", "/usr/local/cuda", "/opt/cuda", "/opt/rocm", "/opt/homebrew"))
)


def has_nvcc() -> bool:
    """Return True if NVIDIA's compiler is installed."""
    return which("nvcc", *named("CUDA_HOME", "CUDA_PATH"), *PREFIXES) is not None


def has_hip() -> bool:
    """Return True if AMD's compiler is installed (an argument of recipe.backend_for)."""
    return which("hipcc", *named("ROCM_PATH"), *PREFIXES) is not None


def nvidia_driver() -> Path | None:
    """Return the driver's library as the linker finds it; None without a driver."""
    for line in output_of("/sbin/ldconfig", "-p").splitlines():
        name, _, path = line.strip().partition(" => ")
        # `libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1`; 32-bit: (libc6)
        if re.match(r"libcuda\.so\.1 \(.*(x86-64|AArch64)", name) and path.startswith("/"):
            return Path(path)
    return None


def named(*variables: str) -> tuple[Path, ...]:
    """Return the folders named by these environment variables."""
    return tuple(Path(os.environ[name]) for name in variables if os.environ.get(name))


def which(name: str, *prefixes: Path) -> Path | None:
    """Find a program on PATH, else below the prefixes."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(f"{p}/bin" for p in prefixes))
    return Path(found) if found else None
