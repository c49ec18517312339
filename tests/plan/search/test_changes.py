"""What changes to the chosen plan cost."""

from __future__ import annotations

from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.search.searches import choose, kimi, planned, small
from tests.plan.shapes import device, machine


def test_a_change_names_the_expert_layers_it_costs() -> None:
    choice = choose(kimi()[:1], machine(device(0, 60 * GIB), ram_bytes=768 * GIB))
    change = next(change for change in choice.changes if change.flags == "-c 65536")
    more = planned(
        choose(
            kimi()[:1],
            machine(device(0, 60 * GIB), ram_bytes=768 * GIB),
            Workload(
                ctx_size=65536,
                cache_type_k=planned(choice).cache_type_k,
                ubatch_size=planned(choice).ubatch_size,
            ),
        )
    )
    lost = _tensors_on_host(more) - _tensors_on_host(planned(choice))
    assert lost > 0
    assert f"costs {f'{lost / 3:.1f}'.removesuffix('.0')} expert layer" in change.text
    assert "on CUDA0" in change.text


def _tensors_on_host(plan: Plan) -> int:
    """Up, down and gate experts of one size each."""
    parts = sum(len(kinds) for _, kinds in plan.placement.host_expert_parts)
    return 3 * len(plan.placement.host_expert_blocks) + parts


def test_a_change_is_predicted_for_the_plans_own_turn() -> None:
    whole = choose(
        small(), machine(), Workload(ctx_size=8192, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    )
    change = next(change for change in whole.changes if change.flags == "-c 4096")
    assert "still" in change.text
    assert "a turn of" in change.text
