"""What is missing where nothing fits, and the changes that would fit."""

from __future__ import annotations

import pytest

from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType
from launcher.plan.placement.arrange import arrange, read_case
from launcher.plan.placement.settle import settle
from launcher.plan.plan import Shortfall
from launcher.plan.rope import Rope
from launcher.plan.search.shortfall import explain_shortfall
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import machine, model

LONG = Rope(trained=1 << 20)


def short(request: Workload, ram_bytes: int) -> Shortfall:
    outcome = make_plan(model(), "q", machine(ram_bytes=ram_bytes), request)
    assert isinstance(outcome, Shortfall)
    return outcome


def test_the_worst_row_is_what_is_missing() -> None:
    found = short(Workload(ctx_size=4096), GIB)
    assert found.where == HOST
    assert found.missing_bytes == -min(row.free_bytes for row in found.ledger)
    assert found.cache_types == "f16/f16"


@pytest.mark.parametrize(
    ("request_", "hints"),
    [
        # 3 GiB of F16 cache are too many, 1.6 of q8_0 are not, nor is half the context.
        (
            Workload(ctx_size=131072, rope=LONG),
            ("-ctk q8_0 -ctv q8_0", "-c 65536", "-c 65536 -ctk q8_0 -ctv q8_0"),
        ),
        (
            Workload(ctx_size=262144, rope=LONG, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0),
            ("-c 131072", "-c 65536", "-c 32768"),
        ),
        (
            Workload(ctx_size=4096, cache_ram_bytes=8 * GIB, ubatch_size=256),
            ("--cache-ram 0",),
        ),
    ],
)
def test_the_mildest_changes_that_fit_are_named(request_: Workload, hints: tuple[str, ...]) -> None:
    assert short(request_, 3 * GIB + 200 * MIB).hints == hints


@pytest.mark.parametrize(
    ("ctx_size", "hints"),
    [
        (8192, ("-np 1", "-ub 256", "-c 4096")),
        (8448, ("-ub 256", "-c 4224", "-c 4224 -ctk q8_0 -ctv q8_0")),  # a single request cannot use it
    ],
)
def test_one_slot_is_named_where_it_can_use_the_whole_pool(ctx_size: int, hints: tuple[str, ...]) -> None:
    """The model is trained for 8192, and every slot costs it a window of its own."""
    request = Workload(n_parallel=8, cache_ram_bytes=0)
    case = read_case(model("gemma3"), "q", machine(ram_bytes=745 * MIB), request, Limits())
    arrangement = arrange(case, settle(case.architecture, request, ctx_size), request)
    assert explain_shortfall(case, request, arrangement).hints == hints
