"""The hardware table that everybody copies, row by row: where the article is wrong, by how much."""

from __future__ import annotations

import pytest

from launcher.engine.flags.argv import Serving, server_argv
from launcher.machine.from_toml import parse_machine
from launcher.machine.to_toml import format_machine
from launcher.plan.amounts import HOST
from launcher.plan.plan import Plan
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.hardware_table import ALONE, GOLDEN, ROOT, ROWS, kimi, render, shipped_machine, verdict

FP16, INT4_8, INT4_2, Q2, TQ1 = ROWS
MACHINES = sorted(path.stem for path in (ROOT / "profiles" / "machines").glob("*.toml"))


def on_host(plan: Plan) -> int:
    return next(row.weights.n_bytes for row in plan.ledger if row.where == HOST)


def test_the_table_is_as_reviewed() -> None:
    """`python tests/plan/hardware_table.py` writes it anew; read the difference before committing it."""
    assert GOLDEN.read_text() == render()


def test_fp16_on_eight_h100_is_short_by_more_than_twice_their_memory() -> None:
    """Article: fits, fastest. There is no FP16 release; in BF16 it is 2053 GB and the cards have 640."""
    short = verdict(FP16, ALONE).shortfall
    assert short is not None
    assert short.where == HOST
    assert 1250 * GIB < short.missing_bytes < 1500 * GIB


def test_int4_on_two_h100_is_short_by_370_gib() -> None:
    """Article: production, 50-100 tokens/s. With a TB of RAM it runs, slower than that."""
    short = verdict(INT4_2, ALONE).shortfall
    assert short is not None
    assert 350 * GIB < short.missing_bytes < 390 * GIB
    plan = verdict(INT4_2).plan
    assert plan is not None
    assert plan.forecast is not None
    assert plan.forecast.decode.high < 50
    assert on_host(plan) > 350 * GIB


def test_int4_on_eight_a100_fits_with_little_to_spare() -> None:
    """Article: fits. It does at 32k of context: 544 of 630 GiB are weights."""
    plan = verdict(INT4_8, ALONE).plan
    assert plan is not None
    assert plan.placement.host_expert_blocks == ()
    rows = [row for row in plan.ledger if row.where != HOST]
    assert len(rows) == 8
    assert 480 * GIB < sum(row.weights.n_bytes for row in rows) < 560 * GIB


def test_q2_on_four_a100_needs_part_of_its_ram() -> None:
    """Article: 4x A100 + 256 GB RAM, medium. It fits, with a sixth of the experts in RAM."""
    plan = verdict(Q2).plan
    assert plan is not None
    assert 5 <= len(plan.placement.host_expert_blocks) <= 12
    assert 25 * GIB < on_host(plan) < 70 * GIB


def test_tq1_on_one_card_of_24_gib_is_faster_than_claimed() -> None:
    """Article: 1-2 tokens/s; that is where it spills to disk. All of it in RAM is several times faster."""
    plan = verdict(TQ1).plan
    assert plan is not None
    assert plan.forecast is not None
    assert plan.forecast.decode.low > 2
    assert len(plan.placement.host_expert_blocks) >= 55


@pytest.mark.parametrize("name", MACHINES)
def test_a_saved_machine_gets_the_plan_of_the_machine_flag_for_flag(name: str) -> None:
    machine = shipped_machine(name)
    saved = parse_machine(format_machine(machine), "saved")
    offers = [Offer(quant="TQ1_0", model=kimi("TQ1_0"))]
    workload = Workload(ctx_size=32768)
    here, there = (search(offers, Task(machine=box, workload=workload)) for box in (machine, saved))
    assert here == there
    if here.plan is not None and there.plan is not None:
        serving = Serving(host="127.0.0.1", port=8080, model_id="m", model_path="m.gguf")
        assert server_argv(here.plan, serving) == server_argv(there.plan, serving)
