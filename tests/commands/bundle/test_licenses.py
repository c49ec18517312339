"""Whoever passes an engine on passes on the licences of what is in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.commands.bundle.contents import licenses_of
from launcher.engine.find import Engine, EngineSource

PROFILE = SimpleNamespace(license="mit", homepage="https://example.org/m")
PLANNED: Any = SimpleNamespace(located=None, target=SimpleNamespace(model_id="m", profile=PROFILE))


def texts_with(folder: Path, **files: str) -> dict[str, str]:
    for name, text in files.items():
        (folder / name.replace("__", ".").replace("_JSON", "-json")).write_text(text)
    engine = Engine(path=folder / "llama-server", folder=folder, source=EngineSource.OPTION)
    return {name: text.decode() for name, text in licenses_of(PLANNED, engine).items()}


def test_an_engine_of_ours_brings_none_and_has_llama_cpps(tmp_path: Path) -> None:
    texts = texts_with(tmp_path)
    assert sorted(texts) == ["licenses/llama.cpp.txt", "licenses/model.txt"]
    assert texts["licenses/llama.cpp.txt"].startswith("MIT License")


def test_each_text_beside_the_engine_is_taken(tmp_path: Path) -> None:
    texts = texts_with(tmp_path, LICENSE="of llama.cpp", LICENSE_JSON="of json", CUDA_LICENSE__txt="NVIDIA's")
    assert texts["licenses/llama.cpp.txt"] == "of llama.cpp"
    assert texts["licenses/json.txt"] == "of json"
    assert texts["licenses/cuda.txt"] == "NVIDIA's"


@pytest.mark.parametrize("library", ["libcublas__so__13", "libcublas__so__12"])
def test_nvidias_libraries_without_their_text_are_named(tmp_path: Path, library: str) -> None:
    assert "https://docs.nvidia.com/cuda/eula/" in texts_with(tmp_path, **{library: ""})["licenses/cuda.txt"]
