"""`-ot` after `--` is a fixed point: planned around, and the engine that loads the plan shows the same rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.deployment.ports import free_port
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.user_flags import absorb_flags
from launcher.engine.log.load_log import compare_load, parse_load_log
from launcher.machine.machine import Backend
from launcher.models.local import open_path
from launcher.plan.modes import LoadMode
from launcher.plan.plan import Plan
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Workload
from launcher.simulate.simulations import Simulations
from launcher.system.settings import read_settings
from launcher.units import MIB
from tests.make_gguf import make_gguf
from tests.plan.shapes import cards, machine
from tests.plan.test_real_load import TWO_GPUS, load

ROUNDING_MIB = 0.1


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("name", "free_mib", "flags", "fixed"),
    [
        ("qwen3moe", (900, 800), r"-ot blk\.[0-3]\.ffn_.*=CPU", {"the host"}),
        ("qwen3moe", (900, 800), r"-ot blk\.1\.ffn_up_exps=Vulkan1 -ncmoe 3", {"the host", "Vulkan1"}),
        ("qwen3moe", (250, 200), r"-ot blk\.0\.ffn_.*_exps=Vulkan1,blk\.3\.attn=CPU", {"the host", "Vulkan1"}),
        ("deepseek2", (110, 110), r"-ot blk\.0\.attn=Vulkan1 --override-tensor ^output=CPU", {"the host", "Vulkan1"}),
        ("deepseek2", (700,), r"-cmoe", {"the host"}),
        ("deepseek2", (700,), r"-cmoe --no-op-offload", {"the host"}),
        ("qwen3moe", (250, 200), r"-ncmoe 5 --no-op-offload", {"the host"}),
        ("gemma3", (200,), r"-ot token_embd=Vulkan0", {"Vulkan0"}),
        ("gemma3", (900,), r"-ot token_embd=CPU", {"the host"}),
    ],
)  # fmt: skip
def test_the_engine_allocates_what_was_planned_around_it(
    name: str,
    free_mib: tuple[int, ...],
    flags: str,
    fixed: set[str],
    engine: Engine,
    vulkan_engine: Engine,
    tmp_path: Path,
) -> None:
    path = make_gguf(tmp_path / "m.gguf", name, hollow=True)[0]
    settings, located = read_settings(), open_path(path)
    box = machine(*cards(*free_mib, backend=Backend.VULKAN))
    request = Workload(ctx_size=4096, load_mode=LoadMode.NONE)
    workload, rest = absorb_flags(flags.split(), request)
    with Simulations(located, engine, settings, box) as oracle:
        offer = Offer(
            quant="Q4_0", model=located.model, simulator=ModelSimulator(oracle=oracle, path=oracle.model)
        )
        plan = plan_one(offer, Task(machine=box, workload=workload))
    assert isinstance(plan, Plan), plan.reasons
    assert plan.simulated_by
    said = re.findall(r"-ot: \d+ tensors? \(.*?\) on (.*?) as asked", "\n".join(plan.reasons))
    assert set(said) == fixed
    argv = server_argv(
        plan,
        Serving(host="127.0.0.1", port=free_port("127.0.0.1"), model_id="m", model_path=str(path)),
        program=str(vulkan_engine.path),
        capabilities=read_capabilities(vulkan_engine, settings.cache_dir),
        user_flags=rest,
    )
    log = load(argv, TWO_GPUS)
    assert "reserve took" in log, log[-2000:]
    rows = compare_load(plan.ledger, parse_load_log(log))
    assert {row.where for row in rows} == {row.where for row in plan.ledger}
    gaps = {row.where: (row.planned_bytes - row.logged_bytes) / MIB for row in rows}
    assert not {where: gap for where, gap in gaps.items() if abs(gap) > ROUNDING_MIB}
