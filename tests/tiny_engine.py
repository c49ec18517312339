"""A source archive that builds in seconds with the real cmake and ninja: llama-server's shape, not its size.

`llama-server` is a small C++ program linked with a library of its own that lands beside it; it says the
version it was built with. `src/slow` is a build step that reads a file: a FIFO there holds the build at
that step until the test lets go.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from launcher.engine.compile.job import BuildRequest
from launcher.engine.pinned import Recipe
from launcher.machine.machine import Backend
from launcher.system.packages import Package, PackageKind

COMMIT = "abc1234"
RECIPE = Recipe(version="1.0", commit=COMMIT, subtree="tiny-1.0/vendor/llama.cpp", targets=("llama-server",))
ARCHIVE = "tiny-1.0.tar.gz"

CMAKE = """\
cmake_minimum_required(VERSION 3.14)
project(tiny C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if (GGML_CCACHE)
    set_property(GLOBAL PROPERTY RULE_LAUNCH_COMPILE ccache)
endif()
add_library(tiny SHARED src/tiny.cpp)
target_include_directories(tiny PUBLIC ${CMAKE_SOURCE_DIR}/include)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/passed
    COMMAND cat "@GATE@" && ${CMAKE_COMMAND} -E touch ${CMAKE_BINARY_DIR}/passed DEPENDS tiny VERBATIM)
add_custom_target(gate DEPENDS ${CMAKE_BINARY_DIR}/passed)
add_executable(llama-server src/main.cpp)
add_dependencies(llama-server gate)
target_link_libraries(llama-server tiny)
target_compile_definitions(llama-server PRIVATE COMMIT="${LLAMA_BUILD_COMMIT}")
"""
HEADER = "const char * tiny_name(void);\n"
LIBRARY = '#include "tiny.h"\nconst char * tiny_name(void) { return "0.1.0-tiny"; }\n'
MAIN = """\
#include <cstdio>
#include "tiny.h"
int main() {
    std::printf("version: %s (build 0, commit %s)\\nbuilt with nothing\\n", tiny_name(), COMMIT);
}
"""


def tiny_request(
    home: Path, *, gate: Path | None = None, main: str = MAIN, cmake: str = CMAKE, ballast_bytes: int = 0
) -> BuildRequest:
    """A request to build the tiny tree under `home`, its archive already in the package cache."""
    packages = home / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    files = {
        "CMakeLists.txt": cmake.replace("@GATE@", str(gate or "/dev/null")),
        "include/tiny.h": HEADER,
        "src/tiny.cpp": LIBRARY,
        "src/main.cpp": main,
        "ballast": "x" * ballast_bytes,
    }
    archive = packages / ARCHIVE
    archive.write_bytes(_tar_gz({f"{RECIPE.subtree}/{name}": text for name, text in files.items()}))
    return BuildRequest(
        backend=Backend.CPU,
        engines_dir=home / "engines",
        packages_dir=packages,
        jobs=1,
        recipe=RECIPE,
        package=Package(
            name="tiny",
            version="1.0",
            kind=PackageKind.SDIST,
            file_name=ARCHIVE,
            sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        ),
    )


def _tar_gz(files: dict[str, str]) -> bytes:
    """Times as an archive has them: long ago, which is what makes ccache trust the headers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("tiny-1.0/PKG-INFO"))
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mtime = 1_700_000_000
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
