"""A build on this machine: its folders, its key, its cmake arguments."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.compile.recipe import build_key, cmake_arguments
from launcher.engine.compile.source import CPU_PATCHES, tree_digest
from launcher.engine.compile.toolchain import Toolchain, find_toolchain
from launcher.engine.find import Origin
from launcher.engine.host_cpu import HostCpu, host_cpu
from launcher.engine.pinned import LLAMA_CPP, Recipe
from launcher.machine.machine import Backend
from launcher.system.packages import LLAMA_CPP_PYTHON, Package

# Variables that cmake and the compilers read, and that change what is built.
_VARIABLES = ("CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDAFLAGS", "HIPFLAGS")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """An engine to build, and the folders to use."""

    backend: Backend
    engines_dir: Path
    packages_dir: Path
    jobs: int  # see recipe.jobs_for
    architectures: tuple[str, ...] = ()  # see recipe.cuda_architectures; empty: of the cards in this machine
    recipe: Recipe = LLAMA_CPP
    package: Package = LLAMA_CPP_PYTHON
    source_dir: Path | None = None  # a tree of the user's, in place of the package
    origin: Origin | None = None  # of a package that is not the pinned one
    toolkit: Path | None = None  # of CUDA, unpacked from packages


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """A build request, resolved against this machine."""

    request: BuildRequest
    tools: Toolchain
    cpu: HostCpu
    arguments: tuple[str, ...]
    source: str  # the sha256 of the package, or the digest of the tree
    key: str
    tree_key: str  # whose tree it is built in: its own, or that of a build it follows

    @property
    def engine(self) -> Path:
        return self.request.engines_dir / self.key

    @property
    def tree(self) -> Path:
        return self.request.engines_dir / f".build-{self.tree_key}"

    @property
    def log(self) -> Path:
        return self.request.engines_dir / "logs" / f"build-{self.key}.log"


def resolve_job(request: BuildRequest) -> BuildJob:
    """Resolve a request. Raises EngineFailed if a compiler or toolkit is missing."""
    tools = find_toolchain(request.backend, packaged=request.toolkit)
    cpu = host_cpu()
    arguments = cmake_arguments(
        request.recipe,
        request.backend,
        architectures=request.architectures,
        apple=sys.platform == "darwin",
    )
    source = request.package.sha256 if request.source_dir is None else tree_digest(request.source_dir)
    # Everything that makes two engines of one llama.cpp unlike.
    facts: dict[str, object] = {
        "arguments": arguments,
        "compiler": tools.compiler,
        "toolkit": tools.toolkit,
        "arch": cpu.arch,
        "isa": cpu.flags,
        "variables": {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        "source": source,
        "patches": CPU_PATCHES,
    }
    key = build_key(request.recipe, request.backend, facts)
    return BuildJob(
        request=request, tools=tools, cpu=cpu, arguments=arguments, source=source, key=key, tree_key=key
    )
