"""The models that tests are made of: sound headers, true sizes, and llama.cpp takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.anatomy import dissect
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, SkippedArray, parse_header
from launcher.models.local import open_path
from tests.make_gguf import PRESETS, Types, make_gguf, make_shards


@pytest.mark.parametrize("architecture", sorted(PRESETS))
@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
def test_every_preset_is_a_sound_header(architecture: str, vocabulary: str) -> None:
    for preset, numbers in PRESETS[architecture].items():
        (shard,) = make_shards(architecture, preset=preset, vocabulary=vocabulary)
        header = parse_header(shard.header)
        assert isinstance(header, Header)
        assert header.data_offset == len(shard.header)
        assert header.end <= shard.size_bytes
        assert dissect(header.metadata, header.tensors).architecture.n_vocab == numbers["n_vocab"]


def test_kimis_vocabulary_has_its_merges() -> None:
    (shard,) = make_shards("deepseek2", preset="kimi-k2.5", vocabulary="bpe")
    header = parse_header(shard.header)
    assert isinstance(header, Header)
    assert header.metadata["tokenizer.ggml.tokens"] == SkippedArray(element_type=8, length=163_840)
    assert header.metadata["tokenizer.ggml.merges"] == SkippedArray(element_type=8, length=163_840 - 256 - 3)


def test_a_hollow_model_has_the_size_of_the_real_one(tmp_path: Path) -> None:
    (real,) = make_gguf(tmp_path / "real.gguf", "gemma3", types=Types(dense=GgmlType.Q4_0))
    (hollow,) = make_gguf(tmp_path / "hollow.gguf", "gemma3", types=Types(dense=GgmlType.Q4_0), hollow=True)
    assert hollow.stat().st_size == real.stat().st_size
    assert open_path(hollow).raw_headers == open_path(real).raw_headers
    assert real.read_bytes().rstrip(b"\0") != hollow.read_bytes().rstrip(b"\0")


def test_shards_have_about_equal_bytes_and_all_tensors(tmp_path: Path) -> None:
    paths = make_gguf(tmp_path / "m.gguf", "qwen3moe", splits=4, hollow=True)
    located = open_path(paths[2])
    sizes = [path.stat().st_size for path in paths]
    assert len(paths) == 4
    assert max(sizes) < 1.3 * min(sizes)
    (whole,) = make_shards("qwen3moe")
    assert len(located.model.tensors) == len(whole.tensors)


def test_the_command_line_writes_what_it_is_told(tmp_path: Path) -> None:
    script = Path(__file__).parent / "make_gguf.py"
    out = tmp_path / "x.gguf"
    told = [
        "--hollow",
        "--splits",
        "2",
        "--expert-type",
        "Q4_K",
        "--set",
        "n_ff_exp=512",
        "--set",
        "n_block=2",
    ]
    done = subprocess.run(
        [sys.executable, script, "qwen3moe", out, *told], capture_output=True, text=True, check=True
    )
    located = open_path(tmp_path / "x-00001-of-00002.gguf")
    assert done.stdout.split() == [
        word for path in sorted(tmp_path.iterdir()) for word in (str(path), str(path.stat().st_size))
    ]
    assert dissect(located.model.metadata, located.model.tensors).quant == "Q4_K_S"
    wrong = subprocess.run(
        [sys.executable, script, "llama", out, "--preset", "nope"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 2
    assert "llama-3.3-70b" in wrong.stderr


@pytest.mark.engine
@pytest.mark.parametrize("architecture", sorted(PRESETS))
@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
def test_llama_cpp_loads_it(engine: Engine, tmp_path: Path, architecture: str, vocabulary: str) -> None:
    tool = engine.folder / "llama-fit-params"
    if not tool.exists():
        pytest.skip(f"{tool} is not there: the engine was not built by launcher engine build")
    path = make_gguf(tmp_path / "m.gguf", architecture, vocabulary=vocabulary, hollow=True, splits=2)[0]
    done = subprocess.run(
        [tool, "-m", path, "-c", "256", "--fit-print", "on"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"LLAMA_LOG_VERBOSITY": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
