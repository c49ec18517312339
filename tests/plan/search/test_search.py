"""The search: what is preferred, what it costs, why the others lose, and limits that hold."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.taskset import split_taskset
from launcher.errors import UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Cpu, Filesystem, Machine, MemoryPool
from launcher.plan.amounts import DISK, HOST, SPEED, Amount, Basis
from launcher.plan.memory.ledger import spread_out
from launcher.plan.modes import CacheType, NumaMode
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Adapter, Limits, Prefer, Workload
from launcher.units import GIB, MIB
from tests.plan.shapes import cards, device, machine, model

KIMI = [
    ("INT4", GgmlType.Q4_0),
    ("Q2", GgmlType.Q2_K),
    ("IQ1", GgmlType.IQ1_S),
]


def kimi() -> list[Offer]:
    return [Offer(quant=name, model=model("deepseek2", "kimi-k2.5", expert=kind)) for name, kind in KIMI]


def small() -> list[Offer]:
    kinds = (("Q8_0", GgmlType.Q8_0), ("Q5_0", GgmlType.Q5_0), ("Q4_0", GgmlType.Q4_0))
    return [Offer(quant=name, model=model("qwen3moe", expert=kind)) for name, kind in kinds]


def choose(
    offers: list[Offer], box: Machine, workload: Workload | None = None, limits: Limits | None = None
) -> Choice:
    return search(
        offers,
        Task(
            machine=box,
            workload=workload or Workload(ctx_size=32768, rope=Rope(trained=262144)),
            limits=limits or Limits(),
        ),
    )


def planned(choice: Choice) -> Plan:
    assert choice.plan is not None, choice.shortfall
    return choice.plan


EPYC = machine(device(0, 31 * GIB), ram_bytes=768 * GIB)


def test_quality_speed_and_what_lies_between() -> None:
    chosen = {prefer: choose(kimi(), EPYC, Workload(ctx_size=32768, prefer=prefer)) for prefer in Prefer}
    assert planned(chosen[Prefer.QUALITY]).quant == "INT4"
    assert planned(chosen[Prefer.SPEED]).quant == "IQ1"
    assert planned(chosen[Prefer.BALANCED]).quant in {"INT4", "Q2"}
    turns = [planned(choice).forecast for choice in chosen.values()]
    assert all(turn is not None for turn in turns)


def test_every_other_quant_has_its_reason() -> None:
    choice = choose(kimi(), machine(device(0, 24 * GIB), ram_bytes=384 * GIB))
    plan = planned(choice)
    reasons = {loser.quant: loser for loser in choice.rejected}
    assert plan.quant == "Q2"
    assert set(reasons) == {"INT4", "IQ1"}
    assert reasons["INT4"].fits is False
    assert reasons["INT4"].where == HOST
    assert (reasons["INT4"].missing_bytes or 0) > 100 * GIB
    assert reasons["IQ1"].fits is True
    assert "lower quality than Q2" in reasons["IQ1"].reason


def test_a_price_names_the_expert_layers_it_costs() -> None:
    choice = choose(kimi()[:1], machine(device(0, 60 * GIB), ram_bytes=768 * GIB))
    price = next(price for price in choice.changes if price.flags == "-c 65536")
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
    assert f"costs {f'{lost / 3:.1f}'.removesuffix('.0')} expert layer" in price.text
    assert "on CUDA0" in price.text


def _tensors_on_host(plan: Plan) -> int:
    """Up, down and gate experts of one size each."""
    parts = sum(len(kinds) for _, kinds in plan.placement.host_expert_parts)
    return 3 * len(plan.placement.host_expert_blocks) + parts


def test_a_ubatch_is_larger_where_prompts_are_computed_with_host_weights() -> None:
    assert planned(choose(kimi()[:1], EPYC)).ubatch_size >= 2048
    assert planned(choose(small(), machine())).ubatch_size == 512
    assert planned(choose(kimi()[:1], EPYC, Workload(ctx_size=8192, ubatch_size=1024))).ubatch_size == 1024


def test_a_speed_that_was_asked_for_excludes_the_slow() -> None:
    fast = choose(kimi(), EPYC, Workload(ctx_size=8192, prefer=Prefer.QUALITY, min_tps=8))
    assert planned(fast).quant != "INT4"
    assert any("--min-tps asks for 8" in loser.reason for loser in fast.rejected)
    never = choose(kimi(), EPYC, Workload(ctx_size=8192, min_tps=1000))
    assert never.plan is None
    assert never.shortfall is not None
    assert never.shortfall.where == SPEED
    assert never.shortfall.lack == "the fastest that fits is slower than asked"


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


def test_slots_share_one_pool_and_the_guarantee_is_said() -> None:
    plan = planned(choose(small(), machine(), Workload(ctx_size=8192, n_parallel=4)))
    assert any("4 requests of 2048 tokens guaranteed" in reason for reason in plan.reasons)


def test_a_download_that_the_disk_cannot_hold_is_refused() -> None:
    offer = replace(small()[1], fetch_bytes=10 * GIB)
    disk = Filesystem(path="/data", type="ext4", total_bytes=100 * GIB, free_bytes=GIB)
    choice = choose([offer], replace(machine(), store=disk))
    assert choice.shortfall is not None
    assert (choice.shortfall.where, choice.shortfall.missing_bytes) == (DISK, 9 * GIB)
    assert planned(choose([replace(offer, fetch_bytes=0)], replace(machine(), store=disk)))


def test_limits_hold() -> None:
    box = machine(*cards(900, 900), ram_bytes=8 * GIB)
    only = planned(choose(small(), box, limits=Limits(gpus=("CUDA1",))))
    assert only.placement.devices == ("CUDA1",)
    assert planned(choose(small(), box, limits=Limits(gpus=("1",)))).placement.devices == ("CUDA1",)
    reserved = planned(choose(small(), box, limits=Limits(reserve=(("", 1500 * MIB),))))
    assert all(row.budget_bytes + 900 * MIB <= 1924 * MIB for row in reserved.ledger if row.where != HOST)
    short = choose(small(), machine(ram_bytes=8 * GIB), limits=Limits(max_ram_bytes=64 * MIB))
    assert short.plan is None
    for limits in (Limits(gpus=("CUDA9",)), Limits(reserve=(("CUDA9", GIB),))):
        with pytest.raises(UsageError, match="there are CUDA0, CUDA1"):
            choose(small(), box, limits=limits)


def test_a_projector_takes_its_place_on_the_first_device() -> None:
    box = machine(*cards(400, 400))
    extra = Adapter(name="projector", amount=Amount(n_bytes=200 * MIB, basis=Basis.EXACT))
    plain = planned(choose(small()[:1], box, Workload(ctx_size=4096, ubatch_size=512)))
    with_it = planned(choose(small()[:1], box, Workload(ctx_size=4096, ubatch_size=512, adapters=(extra,))))
    assert with_it.ledger[0].adapters.n_bytes == 200 * MIB
    assert sum(row.adapters.n_bytes for row in with_it.ledger) == 200 * MIB
    assert len(with_it.placement.host_expert_blocks) > len(plain.placement.host_expert_blocks)


def two_nodes(cores: int, *, affinity: int | None = None) -> Machine:
    """Two sockets with half of the cores each, 380 GiB free on either."""
    half = cores // 2
    cpu = Cpu(
        name="2 x AMD EPYC 9355",
        physical_cores=cores,
        performance_cores=None,
        logical_cores=cores,
        affinity=affinity or cores,
        quota=None,
        isa=("AVX512",),
    )
    nodes = tuple(
        MemoryPool(
            node=index,
            total_bytes=384 * GIB,
            free_bytes=(380 + index) * GIB,
            cpus=tuple(range(index * half, (index + 1) * half)),
        )
        for index in range(2)
    )
    return replace(machine(device(0, 31 * GIB), ram_bytes=768 * GIB), nodes=nodes, cpu=cpu)


def test_what_no_node_holds_is_distributed() -> None:
    plan = planned(choose(kimi()[:1], two_nodes(64)))
    assert (plan.numa, plan.cpus, plan.threads) == (NumaMode.DISTRIBUTE, (), 64)
    assert any("no node holds all" in said and "node 1 381.0 GiB" in said for said in plan.reasons)
    assert any("its node is filled before the next" in said for said in plan.reasons)
    assert planned(choose(kimi()[:1], two_nodes(64), Workload(ctx_size=8192, numa=NumaMode.OFF))).numa is None


def test_what_one_node_holds_is_distributed_where_all_nodes_are_faster() -> None:
    plan = planned(choose(kimi()[2:], two_nodes(64)))
    assert plan.numa is NumaMode.DISTRIBUTE
    assert any("one node would hold all" in said for said in plan.reasons)


def test_one_node_is_kept_to_where_its_cores_are_all_that_compute() -> None:
    """Sixteen CPUs by quota are one node's anyway: the other would only be read across."""
    box = two_nodes(64)
    box = replace(box, cpu=replace(box.cpu, quota=16.0))
    plan = planned(choose(kimi()[2:], box))
    assert (plan.numa, plan.threads) == (NumaMode.ISOLATE, 16)
    assert plan.cpus == tuple(range(32, 64))
    assert plan.forecast is not None
    across = planned(choose(kimi()[2:], box, Workload(ctx_size=32768, numa=NumaMode.DISTRIBUTE)))
    assert across.forecast is not None
    assert plan.forecast.decode.mid > across.forecast.decode.mid
    argv = server_argv(plan, Serving(host="127.0.0.1", port=1, model_id="m", model_path="m"), program="/x/s")
    assert argv[:4] == ("/usr/bin/taskset", "--cpu-list", "32-63", "/x/s")
    assert split_taskset(argv)[1][:2] == ("/x/s", "-m")


def test_a_process_that_may_not_use_all_cpus_keeps_to_its_own() -> None:
    plan = planned(choose(kimi()[:1], two_nodes(64, affinity=24)))
    assert (plan.numa, plan.cpus, plan.threads) == (NumaMode.NUMACTL, (), 24)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=3),
    st.integers(700, 3000),
    st.integers(0, 2),
    st.integers(1, 600),
    st.sampled_from(list(Prefer)),
)
def test_more_memory_never_yields_a_worse_plan(
    free: list[int], ram: int, which: int, more: int, prefer: Prefer
) -> None:
    """Never both of lower quality and slower; by preference: never of lower quality, never slower."""
    workload = Workload(ctx_size=4096, prefer=prefer)
    before = choose(small(), machine(*cards(*free), ram_bytes=ram * MIB), workload).plan
    grown = list(free)
    grown[which % len(grown)] += more
    after = choose(small(), machine(*cards(*grown), ram_bytes=(ram + more) * MIB), workload).plan
    if before is None:
        return
    assert after is not None
    order = [offer.quant for offer in small()]
    assert before.forecast is not None
    assert after.forecast is not None
    worse = order.index(after.quant) > order.index(before.quant)
    slower = after.forecast.turn_seconds.mid > before.forecast.turn_seconds.mid * 1.05
    if prefer is Prefer.QUALITY:
        assert not worse
    elif prefer is Prefer.SPEED:
        assert not slower
    else:
        assert not (worse and slower)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=3), st.integers(700, 3000), st.integers(1, 4))
def test_no_device_over_budget_and_sums_equal_totals(free: list[int], ram: int, slots: int) -> None:
    choice = choose(
        small(), machine(*cards(*free), ram_bytes=ram * MIB), Workload(ctx_size=4096, n_parallel=slots)
    )
    if choice.plan is None:
        assert choice.shortfall is not None
        return
    plan = choice.plan
    file = next(offer.model for offer in small() if offer.quant == plan.quant)
    assert all(row.free_bytes >= 0 for row in plan.ledger)
    held = sum(row.weights.n_bytes for row in plan.ledger)
    assert held == sum(tensor.size_bytes for tensor in file.tensors)
    assert sum(plan.placement.tensor_split) == plan.placement.n_gpu_layers
    assert sum(len(share) for share in spread_out(plan.placement).shares) == plan.placement.n_gpu_layers


def test_the_reason_against_a_better_quant_shows_that_it_is_slower_than_the_rule() -> None:
    choice = choose(kimi(), EPYC, Workload(ctx_size=32768))
    plan = planned(choice)
    turns = {(one.quant, one.cache_type): one.turn_seconds for one in choice.options}
    said = [one for one in choice.rejected if "the limit is" in one.reason]
    assert said
    for one in said:
        turn, limit = (float(word) for word in re.findall(r"([\d.]+) s\b", one.reason))
        assert turn > limit
        assert one.turn_seconds == turns.get((one.quant, one.cache_type), one.turn_seconds)
    assert plan.quant not in {one.quant for one in said}


def test_a_price_is_for_the_plans_own_turn() -> None:
    whole = choose(
        small(), machine(), Workload(ctx_size=8192, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    )
    price = next(one for one in whole.changes if one.flags == "-c 4096")
    assert "still" in price.text
    assert "a turn of" in price.text


def test_nodes_do_not_matter_where_the_host_computes_with_nothing() -> None:
    box = replace(two_nodes(768), devices=cards(200 * 1024))
    assert planned(choose(small()[:1], box, Workload(ctx_size=4096))).numa is None


def test_a_card_that_is_not_needed_is_explained() -> None:
    plan = planned(choose(small()[:1], machine(*cards(8192, 8192)), Workload(ctx_size=4096)))
    assert any("CUDA1 is not needed" in reason for reason in plan.reasons)
