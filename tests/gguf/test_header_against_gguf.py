"""Our reader against that of the gguf package."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader

from launcher.gguf.header import SkippedArray
from tests.gguf.headers import parsed
from tests.make_gguf import make_gguf


def assert_twin(path: Path) -> None:
    """Field by field what the gguf package reads."""
    header, twin = parsed(path.read_bytes()), GGUFReader(path)
    twins = {name: field for name, field in twin.fields.items() if not name.startswith("GGUF.")}
    assert list(header.metadata) == list(twins)
    for key, value in header.metadata.items():
        expected = twins[key].contents()
        if isinstance(value, SkippedArray):
            assert value == SkippedArray(element_type=int(twins[key].types[1]), length=len(expected))
        elif isinstance(value, float):
            assert value == pytest.approx(expected)
        else:
            assert (list(value) if isinstance(value, tuple) else value) == expected
    assert header.data_offset == twin.data_offset
    ours = [
        (t.name, t.shape, int(t.type), t.size_bytes, header.data_offset + t.offset) for t in header.tensors
    ]
    assert ours == [
        (t.name, tuple(int(n) for n in t.shape), int(t.tensor_type), t.n_bytes, t.data_offset)
        for t in twin.tensors
    ]


@pytest.mark.parametrize(
    ("architecture", "vocabulary"),
    [("deepseek2", "bpe"), ("qwen3moe", "spm"), ("llama", "spm"), ("gemma3", "bpe")],
)
def test_the_gguf_package_reads_the_same(tmp_path: Path, architecture: str, vocabulary: str) -> None:
    for path in make_gguf(
        tmp_path / "m.gguf", architecture, vocabulary=vocabulary, hollow=True, numbers={"n_block": 2}
    ):
        assert_twin(path)


def test_the_gguf_package_reads_the_default_model_the_same(default_model: Path) -> None:
    assert_twin(default_model)
