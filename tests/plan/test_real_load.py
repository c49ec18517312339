"""Planned against loaded: the real engine gets the planned argv, and its log must show the ledger.

The load is stopped at the line that ends the reservations; no token is computed. Host rows are compared
because the load mode is none: under mmap the log overstates them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from launcher.deployment.ports import free_port
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Machine
from launcher.models.local import open_path
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, LazyMode, LoadMode, Pooling
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.make_gguf import Types, make_gguf
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine

_BUFFER = re.compile(
    r"(?:load_tensors|llama_kv_cache|sched_reserve|llama_context): +(?P<where>\S+) +"
    r"(?P<kind>model|KV|compute|output) buffer size = +(?P<mib>[\d.]+) MiB"
)
_KINDS = {"model": "weights", "KV": "kv", "compute": "compute", "output": "compute"}
TWO_GPUS = {"GGML_VK_VISIBLE_DEVICES": "0,0"}


def load(argv: tuple[str, ...], variables: dict[str, str], last: str = "reserve took") -> str:
    """The engine's log up to the end of its reservations, or to another line."""
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **variables},
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if last in line:
                break
        process.send_signal(signal.SIGKILL)
    return "".join(lines)


def allocated(log: str) -> dict[tuple[str, str], float]:
    """MiB by (device id or HOST, kind of the ledger)."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for match in _BUFFER.finditer(log):
        where = match["where"] if re.fullmatch(r"[A-Za-z]+\d+", match["where"]) else HOST
        # under load mode none only tables that are read by rows are mapped
        kind = "file" if match["where"] == "CPU_Mapped" else _KINDS[match["kind"]]
        found[where, kind] += float(match["mib"])
    return found


def compare(engine: Engine, path: Path, box: Machine, workload: Workload, cache: Path) -> Plan:
    outcome = make_plan(open_path(path).model, "Q4_0", box, workload)
    assert isinstance(outcome, Plan), outcome.reasons
    serving = Serving(host="127.0.0.1", port=free_port("127.0.0.1"), model_id="m", model_path=str(path))
    argv = server_argv(
        outcome, serving, program=str(engine.path), capabilities=read_capabilities(engine, cache)
    )
    log = load(argv, TWO_GPUS)
    assert "reserve took" in log, log[-2000:]
    found = allocated(log)
    for row in outcome.ledger:
        assert found[row.where, "weights"] == pytest.approx(row.weights.n_bytes / MIB, abs=0.05)
        assert found[row.where, "file"] == pytest.approx(row.file_bytes / MIB, abs=0.05)
        assert found[row.where, "kv"] == pytest.approx(row.kv.n_bytes / MIB, abs=0.05)
        assert found[row.where, "compute"] <= (row.compute.n_bytes + row.compute.band_bytes) / MIB
    assert re.search(rf"n_ctx_seq +(=|:) +{outcome.ctx_size}\b", log)
    return outcome


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "n_parallel", "cache_type"),
    [("qwen3moe", 1, CacheType.Q8_0), ("deepseek2", 4, CacheType.F16), ("gemma3", 2, CacheType.F16)],
)
def test_on_the_host(
    engine: Engine, tmp_path: Path, name: str, n_parallel: int, cache_type: CacheType
) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", name, hollow=True)
    workload = Workload(
        ctx_size=4096,
        n_parallel=n_parallel,
        cache_type_k=cache_type,
        cache_type_v=cache_type,
        load_mode=LoadMode.NONE,
    )
    plan = compare(engine, path, machine(), workload, tmp_path)
    assert plan.placement.devices == ()


@pytest.mark.engine
def test_a_tied_embedding_the_cpu_repacks(engine: Engine, tmp_path: Path) -> None:
    """Once for looking rows up, once for multiplying."""
    types = Types(embedding=GgmlType.Q4_0)
    (path,) = make_gguf(tmp_path / "m.gguf", "gemma3", types=types, hollow=True)
    compare(engine, path, machine(), Workload(ctx_size=4096, load_mode=LoadMode.NONE), tmp_path)


@pytest.mark.engine
@pytest.mark.parametrize("lazy_mode", [LazyMode.ON, LazyMode.OFF])
def test_a_table_that_is_read_by_rows(engine: Engine, tmp_path: Path, lazy_mode: LazyMode) -> None:
    path = make_gguf(tmp_path / "m.gguf", "gemma4", hollow=True, numbers={"n_vocab": 65536})[0]
    workload = Workload(ctx_size=4096, load_mode=LoadMode.NONE, lazy_mode=lazy_mode)
    plan = compare(engine, path, machine(), workload, tmp_path)
    assert (plan.ledger[-1].file_bytes > 20 * MIB) == (lazy_mode is LazyMode.ON)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("embedding", "pooling"),
    [(True, None), (True, Pooling.MEAN), (True, Pooling.RANK), (False, Pooling.MEAN)],
)
def test_logits_of_whole_batches(
    engine: Engine, tmp_path: Path, embedding: bool, pooling: Pooling | None
) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "llama", hollow=True, numbers={"n_vocab": 32768})
    workload = Workload(ctx_size=4096, load_mode=LoadMode.NONE, embedding=embedding, pooling=pooling)
    plan = compare(engine, path, machine(), workload, tmp_path)
    assert plan.ledger[-1].compute.n_bytes > 64 * MIB


@pytest.mark.vulkan
def test_a_table_that_is_read_by_rows_beside_software_gpus(vulkan_engine: Engine, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", "gemma4", hollow=True, numbers={"n_vocab": 65536})[0]
    workload = Workload(ctx_size=4096, load_mode=LoadMode.NONE, lazy_mode=LazyMode.ON)
    plan = compare(vulkan_engine, path, machine(*cards(700, backend=Backend.VULKAN)), workload, tmp_path)
    assert plan.placement.devices
    assert plan.ledger[-1].file_bytes > 20 * MIB


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("name", "splits", "free_mib"),
    [
        ("deepseek2", 3, (700,)),
        ("deepseek2", 1, (190, 180)),
        ("deepseek2", 1, (110, 110)),
        ("qwen3moe", 1, (500, 460)),
        ("qwen3moe", 3, (250, 200)),
        ("gemma3", 1, (200,)),
    ],
)
def test_on_two_software_gpus(
    vulkan_engine: Engine, tmp_path: Path, name: str, splits: int, free_mib: tuple[int, ...]
) -> None:
    """All on devices, experts split between devices and host, and whole layers on the host."""
    path = make_gguf(tmp_path / "m.gguf", name, splits=splits, hollow=True)[0]
    box = machine(*cards(*free_mib, backend=Backend.VULKAN))
    plan = compare(vulkan_engine, path, box, Workload(ctx_size=8192, load_mode=LoadMode.NONE), tmp_path)
    assert plan.placement.devices


@pytest.mark.vulkan
def test_without_op_offload(vulkan_engine: Engine, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True)[0]
    box = machine(*cards(250, 200, backend=Backend.VULKAN))
    workload = Workload(ctx_size=8192, load_mode=LoadMode.NONE, op_offload=False)
    plan = compare(vulkan_engine, path, box, workload, tmp_path)
    assert plan.placement.host_expert_blocks or plan.placement.host_expert_parts
