"""A library with NVML's ABI, made of tests/fakes/nvml.c: no GPU is here, so what it says is made up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def nvml_library(folder: Path) -> Path:
    """The folder to put into LD_LIBRARY_PATH; skips without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler to make the stand-in for NVML with")
    source = Path(__file__).parent / "fakes" / "nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder
