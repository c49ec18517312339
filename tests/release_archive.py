"""A release archive as upstream publishes them, made once from the pinned tree: backends as plugins, all CPU variants.

Only ggml is compiled: programs and libllama are those of the engine that is built here, of the same commit, which load
whatever libggml lies beside them.

python -m tests.release_archive [JOBS]     builds it into the cache; minutes, with ccache less. scripts/test does
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
from launcher.engine.find import find_engine
from launcher.engine.pinned import LLAMA_CPP
from launcher.machine.machine import Backend
from launcher.system.locks import exclusive
from launcher.system.packages import LLAMA_CPP_PYTHON, fetch_package
from launcher.system.settings import read_settings

BUILD_NUMBER = 11026
TAG = f"b{BUILD_NUMBER}"
TARGETS = ("ggml",)  # and with it all its plugins
LEFT_OUT = ("engine.json", "test-llama-archs")  # of a build here; upstream ships neither

# As .github/workflows/release.yml of llama.cpp configures its Linux archives.
_ARGUMENTS = (
    "-DCMAKE_BUILD_TYPE=Release",
    # upstream's -O3 takes three times as long, for as many bytes in the same buffers
    "-DCMAKE_C_FLAGS_RELEASE=-O0 -DNDEBUG",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG",
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


def build_archive(cache_dir: Path, engine: Path, *, jobs: int) -> Path:
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
            pack(tree / "build" / "bin", engine, tree / "source" / "LICENSE", archive)
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
    ninja: tuple[str | Path, ...] = (tools.ninja, "-C", tree / "build", "-j", str(jobs), *TARGETS)
    with (tree.parent / "build.log").open("wb") as log:
        for command in (configure, ninja):
            subprocess.run(command, env=environment, check=True, stdout=log, stderr=log)


def pack(plugins: Path, engine: Path, licence: Path, archive: Path) -> None:
    """Put ggml with its plugins, and the programs and other libraries of `engine`, into upstream's layout."""
    files = {path.name: path for path in engine.iterdir() if not path.name.startswith("libggml")}
    files |= {path.name: path for path in plugins.iterdir() if path.name.startswith("libggml")}
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w:gz", compresslevel=6) as tar:
        tar.add(licence, f"llama-{TAG}/LICENSE")
        for name, path in sorted(files.items()):
            if name not in LEFT_OUT:
                tar.add(path, f"llama-{TAG}/{name}", recursive=False)
    part.rename(archive)


if __name__ == "__main__":
    settings = read_settings()
    built = find_engine(None, None, settings.engines_dir, backend=lambda: Backend.CPU)
    print(build_archive(settings.cache_dir, built.folder, jobs=int(sys.argv[1]) if sys.argv[1:] else 1))
