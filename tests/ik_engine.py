"""An ik_llama.cpp for the tests, built once from its source archive in the package index.

python -m tests.ik_engine [JOBS]     builds it into the tests' cache; minutes, with ccache less. scripts/test does
"""

from __future__ import annotations

import sys
from pathlib import Path

from launcher.commands.engine_build import recipe_of
from launcher.engine.compile.build import build_engine
from launcher.engine.compile.job import BuildRequest
from launcher.engine.compile.source import unpack
from launcher.engine.find import Engine, read_engines
from launcher.errors import LauncherError
from launcher.machine.machine import Backend
from launcher.system.locks import exclusive
from launcher.system.packages import Package, PackageKind, fetch_package
from launcher.system.settings import read_settings

NAME = "ik_llama.cpp"
IK_LLAMA_CPP_PYTHON = Package(
    name="ik-llama-cpp-python",
    version="0.1.5",
    kind=PackageKind.SDIST,
    file_name="ik_llama_cpp_python-0.1.5.tar.gz",
    sha256="33c67eb99e4dcab5e611050433243815709b8b3067753f9ce18375013cf002ad",
)
_SUBTREE = f"ik_llama_cpp_python-0.1.5/vendor/{NAME}"
# In its tree and not in its archive: what a release's cmake includes to write the build's name.
_NAMES_ITSELF = (
    "include(${CMAKE_CURRENT_SOURCE_DIR}/cmake/build-info.cmake)\n"
    'configure_file("${CMAKE_CURRENT_SOURCE_DIR}/common/build-info.cpp.in" '
    '"${CMAKE_CURRENT_SOURCE_DIR}/common/build-info.cpp")\n'
)
# The short form: what its code says and allocates, not how fast it is.
_DEFINES = (
    "CMAKE_C_FLAGS_RELEASE=-O1",
    "CMAKE_CXX_FLAGS_RELEASE=-O0",
    "GGML_IQK_FA_ALL_QUANTS=OFF",
)


def ik_engine_in(cache_dir: Path) -> Engine | None:
    """Find the engine that was built for the tests, the newest."""
    return next(iter(read_engines(_engines_dir(cache_dir))), None)


def build_ik_engine(cache_dir: Path, *, jobs: int) -> Engine:
    """Build the engine unless it is there, as `engine build --source DIR` does. Raises LauncherError."""
    tree = cache_dir / "tests" / "ik" / NAME
    with exclusive(tree.parent / ".lock"):
        if not tree.exists():
            part = tree.with_suffix(".part")
            unpack(fetch_package(IK_LLAMA_CPP_PYTHON, cache_dir / "packages"), _SUBTREE, part)
            (part / "common/cmake").mkdir()
            (part / "common/cmake/build-info-gen-cpp.cmake").write_text(_NAMES_ITSELF)
            part.rename(tree)
        request = BuildRequest(
            backend=Backend.CPU,
            engines_dir=_engines_dir(cache_dir),
            packages_dir=cache_dir / "packages",
            jobs=jobs,
            recipe=recipe_of(tree, _DEFINES),
            source_dir=tree,
        )
        return build_engine(request)


def _engines_dir(cache_dir: Path) -> Path:
    return cache_dir / "tests" / "ik" / "engines"


if __name__ == "__main__":
    try:
        print(build_ik_engine(read_settings().cache_dir, jobs=int(sys.argv[1]) if sys.argv[1:] else 1).path)
    except LauncherError as error:
        sys.exit(f"{NAME}: {error.message}")
