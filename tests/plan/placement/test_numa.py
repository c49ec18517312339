"""Machines with several NUMA nodes."""

from __future__ import annotations

from dataclasses import replace

from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.taskset import split_taskset
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.modes import LoadMode, NumaMode
from launcher.plan.placement.numa import choose_cores, describe_page_placement
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.planned import ledger_row
from tests.plan.search.searches import choose, kimi, planned, small, two_nodes
from tests.plan.shapes import cards


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


def test_nodes_do_not_matter_where_the_host_computes_with_nothing() -> None:
    box = replace(two_nodes(768), devices=cards(200 * 1024))
    assert planned(choose(small()[:1], box, Workload(ctx_size=4096))).numa is None


def held(box: Machine, weights_gib: float) -> LedgerRow:
    return ledger_row(HOST, weights=int(weights_gib * GIB))


QUOTA = replace(two_nodes(64), cpu=replace(two_nodes(64).cpu, quota=16.0))


def test_one_node_is_kept_to_as_long_as_it_holds_all() -> None:
    full = choose_cores(QUOTA, Workload(), held(QUOTA, 381))  # what node 1 has free, to the byte
    assert full.numa is NumaMode.ISOLATE
    assert full.reasons[1].startswith(
        "--numa isolate on node 1, by taskset: it holds all (381.0 GiB on the host"
    )
    assert full.processor.sockets == 1
    assert "each" not in full.reasons[0]
    over = choose_cores(QUOTA, Workload(), held(QUOTA, 381.001))
    assert over.numa is NumaMode.DISTRIBUTE
    assert over.cpus == ()
    assert "on 2 nodes: no node holds all" in over.reasons[1]
    box = two_nodes(64)
    assert "one node would hold all" in choose_cores(box, Workload(), held(box, 381)).reasons[1]


def test_a_nodes_share_of_the_cores() -> None:
    alone = choose_cores(two_nodes(64), Workload(numa=NumaMode.ISOLATE), held(two_nodes(64), 1))
    assert (alone.threads, alone.cpus) == (32, tuple(range(32, 64)))
    assert alone.reasons[1] == "--numa isolate on node 1, by taskset: as asked"
    box = two_nodes(64)
    unknown = replace(box, cpu=replace(box.cpu, physical_cores=None))
    assert choose_cores(unknown, Workload(numa=NumaMode.ISOLATE), held(box, 1)).threads == 32
    threaded = replace(box, cpu=replace(box.cpu, physical_cores=32))  # two threads a core
    assert choose_cores(threaded, Workload(numa=NumaMode.ISOLATE), held(box, 1)).threads == 16
    fewer = replace(box, nodes=(replace(box.nodes[0], free_bytes=None), box.nodes[1]))
    first = choose_cores(fewer, Workload(numa=NumaMode.ISOLATE), held(box, 1))
    assert first.cpus == tuple(range(32))  # 384 GiB, if nothing else is known
    one = replace(box, nodes=box.nodes[:1])
    assert choose_cores(one, Workload(numa=NumaMode.ISOLATE), held(one, 1)).cpus == ()


def test_nodes_do_not_matter_without_weights_or_a_second_node() -> None:
    box = two_nodes(64)
    assert choose_cores(box, Workload(), held(box, 0)).numa is None
    assert choose_cores(box, Workload(), held(box, 1), computes=False).numa is None
    for nodes in (box.nodes[:1], (box.nodes[0], replace(box.nodes[1], cpus=()))):
        assert choose_cores(replace(box, nodes=nodes), Workload(), held(box, 1)).numa is None
    assert choose_cores(box, Workload(numa=NumaMode.OFF), held(box, 1)).reasons[1] == "--numa off, as asked"


def test_where_pages_lie_is_said() -> None:
    assert describe_page_placement(None, LoadMode.NONE) == ()
    assert describe_page_placement(NumaMode.ISOLATE, LoadMode.NONE)[0].startswith(
        "the weights are read in by"
    )
    assert describe_page_placement(NumaMode.ISOLATE, LoadMode.MMAP)[0].startswith("each mapped page lies on")
    assert describe_page_placement(NumaMode.DISTRIBUTE, LoadMode.NONE)[0].startswith(
        "with load mode none one"
    )
