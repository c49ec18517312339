"""Pin the llama.cpp that is built here. PURE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A pinned llama.cpp."""

    version: str
    commit: str
    subtree: str  # its folder inside the source archive
    targets: tuple[str, ...]  # what is built
    arguments: tuple[str, ...] = ()  # of cmake, after those of every build


# llama-cpp-python 0.3.36 carries llama.cpp at commit 0c1e570 (.git/modules/vendor/llama.cpp/HEAD in it).
LLAMA_CPP = Recipe(
    version="0.3.36",
    commit="0c1e570",
    subtree="llama_cpp_python-0.3.36/vendor/llama.cpp",
    targets=(
        "llama-server",
        "llama-bench",
        "ggml-rpc-server",
        "llama-fit-params",
        "test-llama-archs",  # writes a small model of every architecture: what the simulator is proved with
    ),
)
