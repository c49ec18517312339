"""Without op offload nothing of the host's is copied to a device, and prompts are the host's work."""

from __future__ import annotations

from launcher.engine.flags.argv import Serving, server_argv
from launcher.plan.amounts import HOST
from launcher.plan.as_json import plan_json
from launcher.plan.from_json import from_json
from launcher.plan.modes import TensorOverride
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload, as_recorded
from launcher.units import GIB
from tests.plan.planned import make_plan
from tests.plan.shapes import device, machine, model

BOX = machine(device(0, 24 * GIB), ram_bytes=256 * GIB)
SERVING = Serving(host="127.0.0.1", port=1, model_id="m", model_path="/m.gguf")
EXPERTS_ON_HOST = (TensorOverride(pattern="_exps", where=HOST),)


def planned(*, op_offload: bool, ubatch: int = 512) -> Plan:
    asked = Workload(ctx_size=32768, ubatch_size=ubatch, op_offload=op_offload, overrides=EXPERTS_ON_HOST)
    plan = make_plan(model("qwen3moe", "qwen3-235b"), "Q4_0", BOX, asked)
    assert isinstance(plan, Plan)
    return plan


def speeds(*, op_offload: bool, ubatch: int) -> tuple[float, float]:
    """Return tokens/s of prompts and of generation."""
    forecast = planned(op_offload=op_offload, ubatch=ubatch).forecast
    assert forecast is not None
    return forecast.prefill.mid, forecast.decode.mid


def test_the_device_has_no_copies() -> None:
    stays, offloads = planned(op_offload=False), planned(op_offload=True)
    assert stays.ledger[0].compute.n_bytes < offloads.ledger[0].compute.n_bytes


def test_weights_cross_the_link_once_a_batch_so_large_ones_gain() -> None:
    (small, _), (small_here, _) = (speeds(op_offload=each, ubatch=128) for each in (True, False))
    (large, tokens), (large_here, same) = (speeds(op_offload=each, ubatch=4096) for each in (True, False))
    assert large / large_here > 2 * small / small_here
    assert tokens == same


def test_the_command_line_says_it_and_json_keeps_it() -> None:
    stays = planned(op_offload=False)
    assert "--no-op-offload" in server_argv(stays, SERVING)
    assert "--no-op-offload" not in server_argv(planned(op_offload=True), SERVING)
    read = from_json(plan_json(stays))
    assert isinstance(read, Plan)
    assert not read.op_offload
    older = plan_json(planned(op_offload=True))
    del older["settings"]["op_offload"]
    read = from_json(older)
    assert isinstance(read, Plan)
    assert read.op_offload


def test_records_of_older_versions_are_the_same_request() -> None:
    assert "op_offload" not in as_recorded(Workload())
    assert as_recorded(Workload(op_offload=False))["op_offload"] is False
