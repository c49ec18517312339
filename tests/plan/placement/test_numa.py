"""Machines with several NUMA nodes."""

from __future__ import annotations

from dataclasses import replace

from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.taskset import split_taskset
from launcher.plan.modes import NumaMode
from launcher.plan.workload import Workload
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
