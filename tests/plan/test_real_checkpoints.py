"""Counted against kept: the checkpoints of the real engine, as its log tells of them."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path

import httpx2 as httpx
import pytest

from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from launcher.gguf.architecture import read_architecture
from launcher.models.local import open_path
from launcher.plan.memory.kv import state_bytes
from launcher.units import MIB
from tests.make_gguf import make_gguf
from tests.plan.shapes import parameters

_CREATED = re.compile(r"created context checkpoint (\d+) of (\d+) .*size = ([\d.]+) MiB")
_TURNS = 5


@pytest.mark.engine
@pytest.mark.parametrize("name", ["gemma3", "gemma4"])
def test_checkpoints_have_the_counted_size_and_lie_close_together(
    engine: Engine, tmp_path: Path, name: str
) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", name)
    port = free_port("127.0.0.1")
    argv = [str(engine.path), "-m", str(path), "--port", str(port), "-lv", "4", "-fit", "off"]
    argv += ["-c", "4096", "-np", "1", "-ub", "256"]
    log = tmp_path / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(argv, stdout=written, stderr=subprocess.STDOUT, env={**os.environ}) as process,
    ):
        watch = threading.Timer(120, process.kill)
        watch.start()
        try:
            _ask(f"http://127.0.0.1:{port}", process)
        finally:
            watch.cancel()
            process.kill()
    created = _CREATED.findall(log.read_text(errors="replace"))
    # more than one a prompt, far closer together than --checkpoint-min-step's 8192 tokens
    assert len({number for number, _, _ in created}) > _TURNS
    assert {most for _, most, _ in created} == {"32"}
    model = open_path(path).model
    counted = state_bytes(read_architecture(model.metadata, model.tensors), parameters(4096)) / MIB
    assert max(float(size) for _, _, size in created) == pytest.approx(counted, abs=0.002)


def _ask(url: str, process: subprocess.Popen[bytes]) -> None:
    """Hold a conversation whose prompts grow by 40 tokens, longer than the window from the first."""
    tokens = [5 + index % 200 for index in range(700)]
    with httpx.Client(timeout=60) as client:
        while process.poll() is None:
            try:
                if client.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        for turn in range(_TURNS):
            answer = client.post(f"{url}/completion", json={"prompt": tokens, "n_predict": 2})
            assert answer.status_code == 200, answer.text
            tokens += [5 + (7 * turn + index) % 200 for index in range(40)]
