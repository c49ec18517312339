"""Our numbers against llama.cpp's own log.

`test-llama-archs` writes a small model of each architecture; `llama-bench -v` prints the numbers it reads
(print_info) and which blocks get a cache or a recurrent state.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.anatomy import dissect
from launcher.gguf.architecture import Architecture
from launcher.models.local import open_path

# one for each way of sliding, recurring and caching; all 122 were compared once, by hand, and agreed
ARCHITECTURES = [
    "cohere2moe",
    "deepseek2",
    "deepseek4",
    "dots3note",
    "falcon-h1",
    "gemma2",
    "gemma3",
    "glm5-next",
    "gpt-oss",
    "jamba",
    "kimi-k3",
    "laguna",
    "lfm2",
    "llada",
    "llama4",
    "mamba2",
    "mimo2",
    "minimax-01",
    "nemotron_h",
    "qwen3next",
    "smallthinker",
]


@pytest.fixture(scope="module")
def models(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architectures")
    tool = engine.folder / "test-llama-archs"
    if not tool.exists():
        pytest.skip(f"{tool} is not there: the engine was not built by launcher engine build")
    pattern = f"^({'|'.join(ARCHITECTURES)})$"
    subprocess.run([tool, "-o", folder, "-a", pattern], capture_output=True, timeout=120, check=True)
    return folder


def numbers(model: Architecture) -> dict[str, str]:
    """Return numbers by print_info's names and in its form: one number, or a list if blocks differ."""
    single = {
        "arch": model.name,
        "n_layer_all": model.n_block,
        "n_layer": model.n_main,
        "n_embd": model.n_embd,
        "n_ctx_train": model.n_ctx_train,
        "n_rot": model.rope_dims,
        "n_swa": model.n_swa or 0,
        "is_swa_any": int(any(model.swa_blocks)),
        "n_embd_head_k": model.n_embd_head_k,
        "n_embd_head_v": model.n_embd_head_v,
        "n_expert": model.n_expert,
    }
    per_block = {
        "n_head": model.n_head,
        "n_head_kv": model.n_head_kv,
        "n_ff": model.n_ff,
        "n_expert_used": model.n_expert_used,
    }
    folded = {key: list(value) if len(set(value)) > 1 else value[0] for key, value in per_block.items()}
    return {key: str(value) for key, value in (single | folded).items()}


@pytest.mark.engine
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_llama_cpp_reads_the_same_numbers(engine: Engine, models: Path, name: str) -> None:
    path = next(iter(sorted(models.glob(f"{name}-*.gguf"))))
    located = open_path(path)
    model = dissect(located.model.metadata, located.model.tensors).architecture
    done = subprocess.run(
        [engine.folder / "llama-bench", "-m", path, "-p", "1", "-n", "0", "-r", "1", "--no-warmup", "-v"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    log = done.stdout + done.stderr
    info = {key: value.strip() for key, value in re.findall(r"print_info: (\w+)\s*= (.+)", log)}
    expected = numbers(model)
    assert {key: info[key] for key in expected if key in info} == {
        key: expected[key] for key in expected if key in info
    }
    assert len(info) > 10
    caches = {int(block) for block in re.findall(r"llama_kv_cache: layer\s+(\d+): dev =", log)}
    states = {int(block) for block in re.findall(r"llama_memory_recurrent, layer\s+(\d+): dev =", log)}
    assert caches == {block for block, keeps in enumerate(model.kv_blocks) if keeps}
    assert states == {block for block, keeps in enumerate(model.recurrent_blocks) if keeps}
    sizes = re.findall(r"R \(f32\):\s+([\d.]+) MiB, S \(f32\):\s+([\d.]+) MiB", log)
    assert bool(sizes) == (model.recurrence is not None)
    if model.recurrence is not None:
        mib = 4 * len(states) / 2**20
        assert float(sizes[-1][0]) == pytest.approx(model.recurrence.conv_elements * mib, abs=0.006)
        assert float(sizes[-1][1]) == pytest.approx(model.recurrence.state_elements * mib, abs=0.006)
