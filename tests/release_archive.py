"""A release archive as upstream publishes them, made once from the pinned tree: backends as plugins, all CPU variants.

python -m tests.release_archive     builds it into the cache; minutes, with ccache less
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from launcher.engine.compile.source import unpack
from launcher.engine.compile.toolchain import Toolchain, find_toolchain
from launcher.engine.pinned import LLAMA_CPP
from launcher.machine.machine import Backend
from launcher.system.locks import exclusive
from launcher.system.packages import LLAMA_CPP_PYTHON, fetch_package
from launcher.system.settings import read_settings

BUILD_NUMBER = 11026
TAG = f"b{BUILD_NUMBER}"
PROGRAMS = ("llama-server", "llama-bench", "llama-fit-params", "ggml-rpc-server")

# As .github/workflows/release.yml of llama.cpp configures its Linux archives.
_ARGUMENTS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    f"-DLLAMA_BUILD_NUMBER={BUILD_NUMBER}",
    f"-DLLAMA_BUILD_COMMIT={LLAMA_CPP.commit}",
)


def archive_in(cache_dir: Path) -> Path:
    """Name the archive, whether it is there or not."""
    return cache_dir / "tests" / "release" / f"llama-{TAG}-bin-ubuntu-x64.tar.gz"


def build_archive(cache_dir: Path, *, jobs: int) -> Path:
    """Build the archive unless it is there. Raises LauncherError, CalledProcessError."""
    archive = archive_in(cache_dir)
    with exclusive(archive.parent / ".lock"):
        if not archive.is_file():
            tree = archive.parent / ".build"
            tools = find_toolchain(Backend.CPU)
            if not (tree / "unpacked").exists():
                shutil.rmtree(tree, ignore_errors=True)
                package = fetch_package(LLAMA_CPP_PYTHON, cache_dir / "packages")
                unpack(package, LLAMA_CPP.subtree, tree / "source")
                (tree / "unpacked").touch()
            _compile(tree, tools, jobs)
            _pack(tree / "build" / "bin", tree / "source" / "LICENSE", archive)
            shutil.rmtree(tree)
    return archive


def _compile(tree: Path, tools: Toolchain, jobs: int) -> None:
    configure: tuple[str | Path, ...] = (
        *(tools.cmake, "-S", tree / "source", "-B", tree / "build", "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={tools.ninja}",
        f"-DGGML_CCACHE={'ON' if tools.ccache else 'OFF'}",
        *_ARGUMENTS,
    )
    environment = {**os.environ, "CCACHE_BASEDIR": str(tree), "CCACHE_NOHASHDIR": "1"}
    subprocess.run(configure, env=environment, check=True)
    ninja = (tools.ninja, "-C", tree / "build", "-j", str(jobs), *PROGRAMS)
    subprocess.run(ninja, env=environment, check=True)


def _pack(folder: Path, licence: Path, archive: Path) -> None:
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w:gz", compresslevel=6) as tar:
        tar.add(licence, f"llama-{TAG}/LICENSE")
        for path in sorted(folder.iterdir()):
            if not path.is_dir():
                tar.add(path, f"llama-{TAG}/{path.name}", recursive=False)
    part.rename(archive)


if __name__ == "__main__":
    print(build_archive(read_settings().cache_dir, jobs=int(sys.argv[1]) if sys.argv[1:] else 1))
