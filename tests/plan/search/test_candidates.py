"""Cache types and ubatch sizes that the request leaves open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Machine
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.search.searches import EPYC, choose, kimi, planned, small
from tests.plan.shapes import cards, machine, model


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


def tried(request: Workload, box: Machine, architecture: str = "qwen3moe") -> list[tuple[str, int]]:
    """Return the cache type and micro-batch of every candidate, in order."""
    offer = Offer(quant="q", model=model(architecture))
    found = QuantSearch.of(offer, 3, Task(machine=box, workload=request)).tried.candidates
    assert {each.rank[0] for each in found} == {3}
    each_settled = [each.arrangement.settled.parameters for each in found]
    assert [each.rank[1] for each in found] == sorted(each.rank[1] for each in found)
    return [(str(settled.cache_type_k), settled.ubatch_size) for settled in each_settled]


SIZES = [512, 1024, 2048, 4096]
CARD, NONE = machine(*cards(900)), machine()


@pytest.mark.parametrize(
    ("request_", "box", "types", "sizes"),
    [
        (Workload(ctx_size=4096), CARD, ["f16", "q8_0"], SIZES),
        (Workload(ctx_size=4096), NONE, ["f16", "q8_0"], [512]),
        (Workload(ctx_size=4096, batch_size=2048), CARD, ["f16", "q8_0"], SIZES[:3]),
        (Workload(ctx_size=4096, batch_size=2047), CARD, ["f16", "q8_0"], SIZES[:2]),
        (Workload(ctx_size=4096, batch_size=300), CARD, ["f16", "q8_0"], [300]),
        (Workload(ctx_size=4096, ubatch_size=64), CARD, ["f16", "q8_0"], [64]),
        (Workload(ctx_size=4096, cache_type_k=CacheType.Q4_0), CARD, ["q4_0"], SIZES),
        (Workload(ctx_size=4096, cache_type_v=CacheType.F16), CARD, ["f16"], SIZES),
        (Workload(ctx_size=4096, flash_attn=FlashAttention.OFF), CARD, ["f16"], SIZES),
    ],
)
def test_what_the_request_leaves_open_is_tried(
    request_: Workload, box: Machine, types: list[str], sizes: list[int]
) -> None:
    assert tried(request_, box) == [(kind, size) for kind in types for size in sizes]


def test_a_cache_type_that_heads_do_not_divide_into_is_not_tried() -> None:
    plain = model()
    odd = replace(
        plain,
        headers=(
            replace(
                plain.headers[0],
                metadata={**plain.metadata, "qwen3moe.attention.key_length": 48},
            ),
        ),
    )
    offer = Offer(quant="q", model=odd)
    found = QuantSearch.of(offer, 0, Task(machine=NONE, workload=Workload(ctx_size=4096))).tried.candidates
    assert [each.arrangement.settled.parameters.cache_type_k for each in found] == [CacheType.F16]


def test_the_attempt_that_lacks_least_has_the_smallest_cache_and_micro_batch() -> None:
    offer = Offer(quant="q", model=model())
    box = machine(*cards(900), ram_bytes=600 * MIB)
    found = QuantSearch.of(offer, 0, Task(machine=box, workload=Workload(ctx_size=4096))).tried
    assert found.candidates == ()
    assert found.nearest is not None
    settled = found.nearest.settled.parameters
    assert (settled.cache_type_k, settled.ubatch_size) == (CacheType.Q8_0, 512)
