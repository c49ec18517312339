"""A model larger than its memory group: experts come from the file, nothing is killed, nothing else grows."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.supervisor.protect import make_group
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.models.local import open_path
from launcher.plan.amounts import HOST
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.make_gguf import make_gguf
from tests.plan.planned import make_plan
from tests.plan.shapes import machine
from tests.serving import a_request

RAM = 1000 * MIB  # half of it is left to others
PROGRAM = 64 * MIB  # what the process takes beside the ledger's rows: plan/DESIGN.md, the process


@pytest.mark.engine
def test_a_mixture_larger_than_its_memory_answers(deployments: Path, engine: Engine, tmp_path: Path) -> None:
    group = make_group("probe", 64 * MIB)
    if group is None:
        pytest.skip("no memory cgroup can be made here: neither v1's tree nor a delegated v2 one is writable")
    group.remove()
    (path,) = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True, numbers={"n_expert": 512})
    model, box = open_path(path).model, machine(ram_bytes=RAM)
    assert model.size_bytes > RAM
    assert isinstance(make_plan(model, "Q4_0", box, Workload(ctx_size=1024)), Shortfall)
    plan = make_plan(model, "Q4_0", box, Workload(ctx_size=1024, from_disk=True))
    assert isinstance(plan, Plan)

    def argv(port: int) -> tuple[str, ...]:
        serving = Serving(host="127.0.0.1", port=port, model_id="m", model_path=str(path))
        return server_argv(plan, serving, program=str(engine.path))

    running = bring_up(deployments, a_request("m", argv(0), path, argv_for=argv, memory_bytes=RAM))
    assert f"launcher-m-{running.supervisor.pid if running.supervisor else None}" in _read(
        running.pid, "cgroup"
    )
    for prompt in ([5, 6, 7, 8], list(range(5, 261))):
        asked = {"prompt": prompt, "max_tokens": 8, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(
            f"http://127.0.0.1:{running.port}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["timings"]["prompt_n"] == len(prompt)
    host = next(row for row in plan.ledger if row.where == HOST)
    planned = sum(amount.n_bytes + amount.band_bytes for amount in (host.kv, host.compute))
    rows = dict(line.split()[:2] for line in _read(running.pid, "smaps_rollup").splitlines()[1:])
    assert int(rows["Anonymous:"]) * 1024 <= planned + PROGRAM


def _read(pid: int | None, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
