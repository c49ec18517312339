"""What `ls` prints: names that can be copied, however narrow the terminal is."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from launcher.cli.show.stored_models import render_stored_models
from launcher.models.kept.stored_model import StoredModel

NAME = "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL"
MODEL = StoredModel(
    name=NAME,
    quant="UD-Q4_K_XL",
    store="hub",
    size_bytes=16 << 30,
    here_bytes=16 << 30,
    is_whole=True,
    used_at=0.0,
    folder=Path("/hub"),
    paths=(),
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_name_to_type_is_never_broken(width: int) -> None:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(render_stored_models([MODEL], now=120.0))
    lines = captured.get().splitlines()
    assert sum(NAME in line for line in lines) == 1
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "16.0 GiB" in captured.get()
    assert "2 min ago" in captured.get()
