"""The rows of a ledger, from weights in round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.ledger import (
    Demand,
    adapter_amount,
    build_ledger,
    copied_to_first,
    host_weights,
    mark_assumed_weights,
    part_bytes,
    spread_out,
)
from launcher.plan.memory.weights import OverriddenWeights, Weights
from launcher.plan.modes import TensorOverride
from launcher.plan.plan import Placement
from launcher.plan.workload import Adapter
from launcher.units import GIB, MIB
from tests.plan.planned import ledger_row
from tests.plan.round_numbers import BLOCK, WEIGHTS, demand, placed
from tests.plan.shapes import cards, device, machine, model


def rows_of(
    placement: Placement, needs: Demand | None = None, devices: tuple[Device, ...] = cards(1000, 1000)
) -> tuple[LedgerRow, ...]:
    return build_ledger(needs or demand(), placement, read_budgets(machine(*devices)))


def mib(rows: tuple[LedgerRow, ...]) -> list[tuple[float, float]]:
    """Return weights and caches of each row."""
    assert {row.weights.basis for row in rows} == {Basis.EXACT}
    return [(row.weights.n_bytes / MIB, row.kv.n_bytes / MIB) for row in rows]


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (placed(), [(3 + 160 + 7 + 1, 14)]),
        (placed(5), [(160 + 7 + 1, 14), (3, 0)]),
        (placed(2, 3), [(80 + 1, 5), (80 + 7 + 1, 9), (3, 0)]),
        (placed(4, 1), [(160 + 1, 14), (7, 0), (3, 0)]),  # no block, no copy of what every block needs
        (placed(1, 2), [(40 + 1, 4), (40 + 7 + 1, 5), (3 + 80 + 1, 5)]),
        (placed(5, experts=(0, 2)), [(160 - 60 + 7 + 1, 14), (3 + 60, 0)]),
        (placed(5, parts=((1, ("up", "down")),)), [(160 - 21 + 7 + 1, 14), (3 + 21, 0)]),
        (placed(3, experts=(0, 1, 2)), [(80 - 30 + 7 + 1, 9), (3 + 80 + 30 + 1, 5)]),
    ],
)
def test_every_layer_is_in_one_row(placement: Placement, expected: list[tuple[float, float]]) -> None:
    assert mib(rows_of(placement)) == expected


def test_a_tied_embedding_is_there_twice_on_a_device_and_where_the_cpu_repacks_it() -> None:
    tied = replace(WEIGHTS, tied_bytes=3 * MIB, tied_type=GgmlType.Q4_0)
    assert mib(rows_of(placed(4, 1), demand(tied)))[:2] == [(161, 14), (7 + 3, 0)]
    host = 3 + 160 + 7 + 1
    assert mib(rows_of(placed(), demand(tied)))[0][0] == host + 3
    assert mib(rows_of(placed(), demand(replace(tied, tied_type=GgmlType.F16))))[0][0] == host


def test_overridden_tensors_are_in_the_row_that_they_are_sent_to() -> None:
    sent = (
        OverriddenWeights(where="CUDA1", n_tensors=1, expert_bytes=50 * MIB),
        OverriddenWeights(where=HOST, n_tensors=1, dense_bytes=20 * MIB),
    )
    rows = rows_of(placed(2, 3), demand(replace(WEIGHTS, overridden=sent)))
    assert [weights for weights, _ in mib(rows)] == [81, 88 + 50, 3 + 20]


def test_stuck_weights_are_the_hosts() -> None:
    layers = (replace(BLOCK, stuck_bytes=5 * MIB), *WEIGHTS.layers[1:])
    assert mib(rows_of(placed(5), demand(replace(WEIGHTS, layers=layers))))[1][0] == 3 + 5


def test_a_pipeline_runs_only_over_several_devices_without_the_host() -> None:
    rule = TensorOverride(pattern="x", where=HOST)
    assert spread_out(placed(2, 3)).pipeline
    assert not spread_out(placed(5)).pipeline
    assert not spread_out(placed()).pipeline
    for other in (
        placed(2, 2),
        placed(2, 3, experts=(0,)),
        placed(2, 3, parts=((0, ("up",)),)),
        placed(2, 3, overrides=(rule,)),
    ):
        assert not spread_out(other).pipeline


def test_layers_are_counted_from_the_first_on_a_device() -> None:
    spread = spread_out(placed(1, 2))
    assert spread.host_layers == range(2)
    assert spread.shares == (range(2, 3), range(3, 5))


LORA = Adapter(name="l", amount=Amount(n_bytes=MIB, basis=Basis.EXACT, band_bytes=2), everywhere=True)
VECTOR = Adapter(name="v", amount=Amount(n_bytes=5 * MIB, basis=Basis.ESTIMATED, band_bytes=3))


def test_adapters_are_on_the_first_place_or_on_each() -> None:
    both = demand(adapters=(LORA, VECTOR))
    assert adapter_amount(both, first=True) == Amount(n_bytes=6 * MIB, basis=Basis.ESTIMATED, band_bytes=5)
    assert adapter_amount(both, first=False) == LORA.amount
    assert adapter_amount(demand(), first=True) == NOTHING
    assert [row.adapters.n_bytes // MIB for row in rows_of(placed(2, 3), both)] == [6, 1, 0]
    assert [row.adapters.n_bytes // MIB for row in rows_of(placed(), both)] == [6]


def test_the_hosts_overhead_has_a_part_for_every_device_in_use() -> None:
    """CUDA's contexts: 128 MiB, give or take as much; the engine itself: 96."""
    for placement, n_devices in ((placed(), 0), (placed(5), 1), (placed(2, 3), 2)):
        overhead = rows_of(placement)[-1].overhead
        assert overhead.n_bytes == overhead.band_bytes == (96 + 128 * n_devices) * MIB
        assert overhead.basis is Basis.ESTIMATED


def test_memory_that_a_device_shares_is_the_hosts_loss() -> None:
    gpu = device(0, 30 * GIB, backend=Backend.METAL, shares_host_memory=True)
    first, host = rows_of(placed(5, prefix="MTL"), devices=(gpu,))
    assert host.budget_bytes == 60 * GIB - first.used_bytes
    carved = replace(gpu, carve_out_bytes=100 * MIB)
    _, host = rows_of(placed(5, prefix="MTL"), devices=(carved,))
    assert host.budget_bytes == 60 * GIB - (first.used_bytes - 100 * MIB)
    roomy = replace(gpu, carve_out_bytes=20 * GIB)
    assert rows_of(placed(5, prefix="MTL"), devices=(roomy,))[1].budget_bytes == 60 * GIB
    assert rows_of(placed(5))[-1].budget_bytes == 60 * GIB


def test_the_first_device_copies_the_hosts_largest() -> None:
    needs = demand()
    assert copied_to_first(needs, range(0), frozenset()) == (0, 0)
    assert copied_to_first(needs, range(2), frozenset()) == (12 * MIB, 3 * MIB)
    assert copied_to_first(needs, range(0), frozenset({3})) == (12 * MIB, 0)
    assert copied_to_first(needs, range(4, 5), frozenset()) == (0, 0)  # the output layer has no cache
    fixed = (OverriddenWeights(where=HOST, n_tensors=1, largest_bytes=500 * MIB),)
    large = demand(replace(WEIGHTS, overridden=fixed))
    assert copied_to_first(large, range(2), frozenset())[0] == 500 * MIB
    # The first of two devices copies two at a time.
    rule = TensorOverride(pattern="x", where=HOST)
    first, second, _ = rows_of(placed(2, 3, overrides=(rule,)), large)
    assert 1000 * MIB < first.compute.n_bytes < 1100 * MIB
    assert second.compute.n_bytes < 100 * MIB
    (alone, _) = rows_of(placed(5, overrides=(rule,)), large)
    assert 500 * MIB < alone.compute.n_bytes < 600 * MIB
    # Experts of a block, whole or in part, are copied as well.
    for host in ({"experts": (0,)}, {"parts": ((0, ("up",)),)}):
        layers = (replace(BLOCK, largest_expert_bytes=400 * MIB), *WEIGHTS.layers[1:])
        first, second, _ = rows_of(placed(2, 3, **host), demand(replace(WEIGHTS, layers=layers)))
        assert first.compute.n_bytes > 800 * MIB > second.compute.n_bytes


def test_the_last_device_has_the_logits() -> None:
    first, last, _ = rows_of(placed(2, 3))
    embedding = (
        4 * 4 * 512 * demand().architecture.n_embd
    )  # 4 hidden states more in a pipeline, if not the first
    logits = 2 * 4 * (demand().architecture.n_vocab or 0)
    assert last.compute.n_bytes - first.compute.n_bytes == embedding + logits


@pytest.mark.parametrize(
    ("placement", "weights", "wide"),
    [
        (placed(5), WEIGHTS, False),
        (placed(4), WEIGHTS, True),
        (placed(5, experts=(0,)), WEIGHTS, True),
        (placed(5, parts=((0, ("up",)),)), WEIGHTS, True),
        (placed(5), replace(WEIGHTS, layers=(replace(BLOCK, stuck_bytes=1), *WEIGHTS.layers[1:])), True),
        (placed(5), replace(WEIGHTS, overridden=(OverriddenWeights(where=HOST, n_tensors=1),)), True),
    ],
)
def test_the_hosts_compute_is_uncertain_where_it_holds_weights(
    placement: Placement, weights: Weights, wide: bool
) -> None:
    host = rows_of(placement, demand(weights))[-1]
    assert (host.compute.band_bytes > 16 * MIB) is wide


def test_without_devices_the_host_computes_the_graph() -> None:
    alone, beside = rows_of(placed())[-1].compute, rows_of(placed(5))[-1].compute
    assert alone.n_bytes > beside.n_bytes


def test_parts_of_blocks_and_the_hosts_sum() -> None:
    spread = spread_out(placed(5, parts=((1, ("gate",)), (3, ("down", "up")))))
    assert part_bytes(WEIGHTS, spread) == {1: 9 * MIB, 3: 21 * MIB}
    assert host_weights(WEIGHTS, spread) == (3 + 30) * MIB


def test_assumed_types_make_estimates() -> None:
    rows = (ledger_row("CUDA0", weights=5, kv=3),)
    file = model("llama")
    assert mark_assumed_weights(file, rows) == rows
    (row,) = mark_assumed_weights(replace(file, assumed_types=True), rows)
    assert (row.weights.basis, row.weights.n_bytes, row.kv.basis) == (Basis.ESTIMATED, 5, Basis.EXACT)
