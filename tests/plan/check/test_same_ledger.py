"""A plan, and the check of the command line that it prints: the same bytes in the same places."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.command_line import read_command
from launcher.engine.flags.user_flags import absorb_flags
from launcher.errors import UsageError
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Backend, Machine
from launcher.plan.amounts import LedgerRow
from launcher.plan.check.check import check_configuration
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.check.checks import SILENT
from tests.plan.golden import CASES
from tests.plan.planned import make_plan
from tests.plan.shapes import device, machine, model

SERVING = Serving(host="127.0.0.1", port=8080, model_id="m", model_path="/m.gguf")


def checked(plan: Plan, file: ModelFile, box: Machine, flags: tuple[str, ...] = ()) -> tuple[LedgerRow, ...]:
    line = server_argv(plan, SERVING, user_flags=flags)
    configuration = read_command(line).configuration
    return check_configuration(configuration, file, box, SILENT, "/m.gguf").ledger


def parts(ledger: tuple[LedgerRow, ...]) -> dict[str, int]:
    return {
        f"{row.where} {part}": n_bytes
        for row in ledger
        for part, n_bytes in {
            "weights": row.weights.n_bytes,
            "in file": row.file_bytes,
            "kv": row.kv.n_bytes,
            "compute": row.compute.n_bytes,
            "cache": row.cache.n_bytes,
            "overhead": row.overhead.n_bytes,
            "band": sum(amount.band_bytes for amount in row.amounts),
            "budget": row.budget_bytes,
            "shared": row.shared_bytes,
        }.items()
    }


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_golden_plan_is_what_its_line_is_checked_as(name: str) -> None:
    file, box, workload = CASES[name]
    plan = make_plan(file, "Q4_0", box, workload)
    if not isinstance(plan, Plan):
        pytest.skip("it does not fit, so there is no line")
    assert parts(checked(plan, file, box)) == parts(plan.ledger)


MODELS = ("deepseek2", "qwen3moe", "llama", "gemma3", "gemma4")
DEVICES = st.lists(
    st.tuples(st.integers(1050, 2200), st.sampled_from([Backend.CUDA, Backend.VULKAN]), st.booleans()),
    max_size=3,
)
FLAGS = st.lists(
    st.sampled_from(
        [
            "--embeddings",
            "--rerank",
            "--pooling mean",
            "--pooling none",
            "-np 3",
            "-ub 256",
            "-ub 1024",
            "-b 512",
            "-ctk q8_0",
            "-ctv q8_0",
            "-fa off",
            "-cram 100",
            "-lm mmap",
            "-lm none",
            "-lzm on",
            "-lzm off",
            "-ncmoe 2",
            "-cmoe",
            "--jinja",
        ]
    ),
    max_size=4,
    unique_by=lambda flag: flag.split()[0],
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    name=st.sampled_from(MODELS),
    cards=DEVICES,
    ram_mib=st.integers(700, 4096),
    ctx_size=st.sampled_from([1024, 4096, 8192]),
    flags=FLAGS,
)
def test_any_plan_is_what_its_line_is_checked_as(
    name: str,
    cards: list[tuple[int, Backend, bool]],
    ram_mib: int,
    ctx_size: int,
    flags: list[str],
) -> None:
    backend = cards[0][1] if cards else Backend.CUDA
    box = machine(
        *(
            device(index, free * MIB, backend=backend, shares_host_memory=cards[0][2])
            for index, (free, _, _) in enumerate(cards)
        ),
        ram_bytes=ram_mib * MIB + GIB,
    )
    file = model(name)
    words = tuple(word for flag in flags for word in flag.split())
    try:
        workload, rest = absorb_flags(words, Workload(ctx_size=ctx_size))
        plan = make_plan(file, "Q4_0", box, workload)
    except UsageError:
        assume(False)
        return
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    assert parts(checked(plan, file, box, rest)) == parts(plan.ledger)
