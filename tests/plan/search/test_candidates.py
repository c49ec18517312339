"""Cache types and ubatch sizes that the request leaves open."""

from __future__ import annotations

import pytest

from launcher.plan.modes import CacheType
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.search.searches import EPYC, choose, kimi, planned, small
from tests.plan.shapes import machine


def test_a_ubatch_is_larger_where_prompts_are_computed_with_host_weights() -> None:
    assert planned(choose(kimi()[:1], EPYC)).ubatch_size >= 2048
    assert planned(choose(small(), machine())).ubatch_size == 512
    assert planned(choose(kimi()[:1], EPYC, Workload(ctx_size=8192, ubatch_size=1024))).ubatch_size == 1024


def test_cache_types_give_way_before_context() -> None:
    """f16 does not fit at this context, q8_0 does: the context stays."""
    asked = Workload(ctx_size=8192)
    exact = Workload(ctx_size=8192, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16, ubatch_size=512)
    for mib in range(1000, 1600, 4):
        box = machine(ram_bytes=mib * MIB)
        if (
            choose(small()[1:2], box, exact).plan is None
            and choose(small()[1:2], box, asked).plan is not None
        ):
            plan = planned(choose(small()[1:2], box, asked))
            assert (plan.cache_type_k, plan.ctx_size) == (CacheType.Q8_0, 8192)
            return
    pytest.fail("no machine where only q8_0 fits")
