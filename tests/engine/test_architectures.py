"""The architectures whose names an engine's libraries have."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.architectures import check_architecture
from launcher.engine.find import Engine, EngineSource
from launcher.errors import EngineFailed


def engine_with(folder: Path, data: bytes, library: str = "libllama.so.0") -> Engine:
    folder.mkdir()
    (folder / library).write_bytes(data)
    return Engine(path=folder / "llama-server", folder=folder, source=EngineSource.BUILT)


def test_a_name_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    data = b"\x7fELF\0general.architecture\0qwen3moe\0llama\0"
    engine = engine_with(tmp_path / "ik_llama.cpp-cpu-aa", data)
    check_architecture(engine, "qwen3moe")
    with pytest.raises(
        EngineFailed, match=r"the engine ik_llama.cpp-cpu-aa does not know .* qwen3"
    ) as caught:
        check_architecture(engine, "qwen3")
    assert "launcher engine build --source DIR" in str(caught.value.hint)


def test_what_cannot_be_searched_refuses_nothing(tmp_path: Path) -> None:
    check_architecture(engine_with(tmp_path / "a", b"packed"), "qwen3moe")
    check_architecture(engine_with(tmp_path / "b", b""), "qwen3moe")
    check_architecture(engine_with(tmp_path / "c", b"", library="other.so"), "qwen3moe")  # no program either
