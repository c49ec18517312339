"""What the first batches add to a model and its MTP context, by the engine's own allocations."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from launcher.plan.companions import Companions, MtpRequest
from launcher.plan.memory.companion_questions import mtp_question
from launcher.plan.oracle import DraftAnswer, Question
from launcher.simulate.client import SimulatorPool
from launcher.units import MIB
from tests.make_drafters import make_mtp
from tests.simulate.engine_log import allocation_log, server_argv

MTP = Companions(mtp=MtpRequest(), spec_types=("draft-mtp",), n_draft=3, head_length=3)
WIDTH = 512


def answered(url: str, prompt: list[int], deadline_s: float = 240) -> None:
    """Ask until the model is loaded and has answered."""
    body = json.dumps({"prompt": prompt, "n_predict": 8, "ignore_eos": True}).encode()
    end = time.monotonic() + deadline_s
    while True:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=deadline_s) as reply:
                predicted = json.load(reply)["tokens_predicted"]
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            assert predicted == 8
            return


@pytest.mark.engine
def test_output_buffers_grow_to_what_is_counted(
    engine: Engine, simulators: SimulatorPool, tmp_path: Path
) -> None:
    model = make_mtp(tmp_path / "mtp.gguf", n_embd=WIDTH)
    main = MTP.of_main(Question(model=str(model), devices=(), ctx_size=4096))
    assert MTP.mtp is not None
    found = simulators.simulate_draft(mtp_question(MTP.mtp, MTP, main))
    assert isinstance(found, DraftAnswer)

    port, log = free_port("127.0.0.1"), tmp_path / "log"
    command = [str(engine.path), *server_argv(main), "--fit", "off", "--host", "127.0.0.1", "-lv", "4"]
    command += ["--port", str(port), "--no-warmup", "--spec-type", "draft-mtp"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, "LD_PRELOAD": str(allocation_log())},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            answered(f"http://127.0.0.1:{port}/completion", list(range(10, 610)))
        finally:
            process.kill()
            process.wait()
    first, last = outputs(log.read_text(errors="replace"))
    counted = sum(row.output_bytes for row in found.growth)
    assert last - first == pytest.approx(counted, abs=MIB // 50)  # two sizes of the log's two decimals
    assert sum(row.compute_bytes for row in found.growth) == 0


def outputs(log: str) -> tuple[int, int]:
    """The bytes of both contexts' output buffers at first, and after the last batch."""
    after_load = log[log.index("speculative implementation 'draft-mtp'") :]
    sizes = [int(size) for size in re.findall(r"allocated CPU (\d+)", after_load)]
    logged = [float(mib) for mib in re.findall(r"output buffer size = +([\d.]+) MiB", log)]
    assert len(logged) == 2
    # the drafter's compute buffer once more, then its output buffer, then the model's as often as it grows
    return round(sum(logged) * MIB), sizes[1] + max(sizes[2:])
