"""Placements as stages: what each processor reads, holds and computes for a token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.amounts import HOST
from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.turn import Turn
from launcher.plan.memory.weights import LayerWeights, OverriddenWeights, Weights
from launcher.plan.modes import CacheType
from launcher.plan.placement.pace import forecast_placement, stages_of
from launcher.plan.plan import Placement, Plan
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.forecast.stages import HOST as CPU
from tests.plan.planned import make_plan
from tests.plan.round_numbers import BLOCK, WEIGHTS, demand, placed
from tests.plan.shapes import cards, machine, model

# One million parameters outside experts, 12 in them; a token uses a quarter of the experts.
LAYER = replace(BLOCK, dense_values=1_000_000, expert_values=12_000_000)
USED = replace(WEIGHTS, layers=(LAYER,) * 4 + (LayerWeights(dense_bytes=7 * MIB, dense_values=500_000),))


def stages(placement: Placement, weights: Weights = USED) -> tuple[Stage, ...]:
    needs = demand(weights)
    needs = replace(needs, architecture=replace(needs.architecture, n_expert=8, n_expert_used=(2, 2, 2, 2)))
    return stages_of(needs, placement, machine(*cards(1000, 1000)), CPU)


def figures(stage: Stage) -> tuple[float, float, float, float, float, float]:
    """Layers, MiB read and held, millions of multiplications and additions, MiB of cache, MiB sent over."""
    return (
        stage.n_layers,
        stage.read_bytes / MIB,
        stage.held_bytes / MIB,
        stage.flops / 2e6,
        round(stage.kv_bytes * 8192 / MIB, 6),
        stage.streamed_bytes / MIB,
    )


NO_HOST = (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        # 4 x (10 + 30 / 4) + 7 read, 4 x (1 + 12 / 4) + 0.5 computed.
        (placed(), [(5, 77, 167, 16.5, 14, 0)]),
        (placed(5), [(5, 77, 167, 16.5, 14, 0), NO_HOST]),
        (placed(2, 3), [(2, 35, 80, 8, 5, 0), (3, 42, 87, 8.5, 9, 0), NO_HOST]),
        # Two blocks on the host: in prompts the first device computes with their dense weights.
        (placed(1, 2), [(1, 17.5, 40, 4 + 2, 4, 80), (2, 24.5, 47, 4.5, 5, 0), (2, 35, 80, 8, 5, 80)]),
        # Experts of block 0, which the first device computes with as well.
        (placed(5, experts=(0,)), [(5, 69.5, 137, 16.5, 14, 30), (1, 7.5, 30, 3, 0, 30)]),
        # A part of block 1's experts: 21 of 30 MiB.
        (placed(5, parts=((1, ("up", "down")),)), [(5, 71.75, 146, 16.5, 14, 21), (1, 5.25, 21, 0, 0, 21)]),
        # Blocks on the host keep their experts there, counted once.
        (placed(3, experts=(0, 1, 2)), [(3, 34.5, 57, 5.5 + 3 * 3 + 2, 9, 110), (3, 42.5, 110, 11, 5, 110)]),
    ],
)
def test_each_processor_reads_and_computes_its_part(
    placement: Placement, expected: list[tuple[float, ...]]
) -> None:
    assert [figures(stage) for stage in stages(placement)] == expected


def test_overridden_and_stuck_weights_are_read_where_they_are() -> None:
    sent = (
        OverriddenWeights(where="CUDA1", n_tensors=2, dense_bytes=4 * MIB, expert_bytes=8 * MIB),
        OverriddenWeights(where=HOST, n_tensors=2, dense_bytes=3 * MIB, expert_bytes=20 * MIB, blocks=(1, 2)),
    )
    _, card, host = stages(placed(2, 3), replace(USED, overridden=sent))
    assert figures(card)[:3] == (3, 42 + 4 + 2, 87 + 12)
    assert figures(host)[:3] == (2, 3 + 5, 23)
    assert figures(host)[5] == 23
    stuck = (replace(LAYER, stuck_bytes=16 * MIB), *USED.layers[1:])
    _, host = stages(placed(5), replace(USED, layers=stuck))
    assert figures(host)[1:3] == (4, 16)


def test_a_tied_embedding_is_read_as_output() -> None:
    tied = replace(USED, tied_bytes=3 * MIB)
    assert [figures(stage)[1] for stage in stages(placed(2, 3), tied)] == [35, 42 + 3, 0]
    assert [figures(stage)[1] for stage in stages(placed(), tied)] == [77 + 3]


def test_a_dense_model_uses_all_of_its_weights() -> None:
    needs = demand(USED)
    assert not needs.architecture.is_moe
    (host,) = stages_of(needs, placed(), machine(), CPU)
    assert host.read_bytes == host.held_bytes


def test_a_turn_is_cut_to_the_context() -> None:
    forecast = forecast_placement(demand(USED), placed(), machine(), CPU)
    assert forecast.turn == Turn().within(8192)
    asked = Turn(cached_tokens=1, prompt_tokens=2, reply_tokens=3)
    assert forecast_placement(demand(USED), placed(), machine(), CPU, asked).turn == asked


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "bf16"])
def test_a_smaller_cache_is_not_read_faster(kind: str) -> None:
    """As published: DeepSeek-R1 with F16 and with q8_0 loses the same 25 ms from depth 0 to 30208."""
    for name in ("llama", "deepseek2"):
        plans = [
            make_plan(
                model(name),
                "Q4_0",
                machine(*cards(8000)),
                Workload(ctx_size=4096, cache_type_k=CacheType(of), cache_type_v=CacheType(of)),
            )
            for of in ("f16", kind)
        ]
        usual, small = (plan for plan in plans if isinstance(plan, Plan))
        assert usual.forecast is not None
        assert small.forecast is not None
        assert small.forecast.decode == usual.forecast.decode
        assert small.ledger[0].kv.n_bytes <= usual.ledger[0].kv.n_bytes
