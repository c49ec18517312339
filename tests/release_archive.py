"""Release archives as upstream publishes them, made once from the pinned tree: backends as plugins, all CPU variants.

python -m tests.release_archive     builds them into the cache; minutes, with ccache less
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.compile.source import patch_vulkan, unpack
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
    "-DGGML_VULKAN=ON",  # a plugin of its own: the CPU archive is the same without it
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    f"-DLLAMA_BUILD_NUMBER={BUILD_NUMBER}",
    f"-DLLAMA_BUILD_COMMIT={LLAMA_CPP.commit}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseArchives:
    """The CPU and the Vulkan archive of one build."""

    cpu: Path
    vulkan: Path

    @property
    def exist(self) -> bool:
        return self.cpu.is_file() and self.vulkan.is_file()


def archives_in(cache_dir: Path) -> ReleaseArchives:
    """Name the archives, whether they are there or not."""
    folder = cache_dir / "tests" / "release"
    name = f"llama-{TAG}-bin-ubuntu"
    return ReleaseArchives(cpu=folder / f"{name}-x64.tar.gz", vulkan=folder / f"{name}-vulkan-x64.tar.gz")


def build_archives(cache_dir: Path, *, jobs: int) -> ReleaseArchives:
    """Build both archives unless they are there. Raises LauncherError, CalledProcessError."""
    made = archives_in(cache_dir)
    with exclusive(made.cpu.parent / ".lock"):
        if not made.exist:
            _build(made, cache_dir, jobs)
    return made


def _build(made: ReleaseArchives, cache_dir: Path, jobs: int) -> None:
    tree = made.cpu.parent / ".build"
    tools = find_toolchain(Backend.VULKAN)
    if not (tree / "unpacked").exists():
        shutil.rmtree(tree, ignore_errors=True)
        archive = fetch_package(LLAMA_CPP_PYTHON, cache_dir / "packages")
        unpack(archive, LLAMA_CPP.subtree, tree / "source")
        patch_vulkan(tree / "source", tools.vulkan_headers)
        (tree / "unpacked").touch()
    _compile(tree, tools, jobs)
    licence = tree / "source" / "LICENSE"
    _pack(tree / "build" / "bin", licence, made.vulkan, without="")
    _pack(tree / "build" / "bin", licence, made.cpu, without="libggml-vulkan")
    shutil.rmtree(tree)


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


def _pack(folder: Path, licence: Path, archive: Path, *, without: str) -> None:
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w:gz", compresslevel=6) as tar:
        tar.add(licence, f"llama-{TAG}/LICENSE")
        for path in sorted(folder.iterdir()):
            if not (without and path.name.startswith(without)) and not path.is_dir():
                tar.add(path, f"llama-{TAG}/{path.name}", recursive=False)
    part.rename(archive)


if __name__ == "__main__":
    print(build_archives(read_settings().cache_dir, jobs=int(sys.argv[1]) if sys.argv[1:] else 1))
