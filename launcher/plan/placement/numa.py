"""Choose the cores that compute on the host: threads, NUMA mode, and a node to stay on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.machine.machine import Cpu, Machine, MemoryPool
from launcher.plan.amounts import LedgerRow
from launcher.plan.forecast.decode import weight_rate
from launcher.plan.forecast.processors import GB, Processor, host_processor, node_processor
from launcher.plan.modes import LoadMode, NumaMode
from launcher.plan.placement.threads import choose_threads
from launcher.plan.workload import Workload
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    threads: int
    processor: Processor  # for the forecast
    numa: NumaMode | None = None
    node: MemoryPool | None = None  # the one that the process stays on, if any
    reasons: tuple[str, ...] = ()

    @property
    def cpus(self) -> tuple[int, ...]:
        """CPUs that the process is bound to; empty for any."""
        return self.node.cpus if self.node else ()


def choose_cores(machine: Machine, workload: Workload, host: LedgerRow, *, computes: bool = True) -> Cores:
    """Choose threads and NUMA mode for what the host holds; it `computes` unless it only looks tokens up."""
    # llama.cpp's modes (ggml-cpu.c, set_numa_thread_affinity, at 0c1e570): `distribute` pins thread i to
    # node i modulo their number, `isolate` all threads to the node that the process started on, `numactl`
    # to the CPUs it was given. Each of them gives every thread the same rows of a matrix in every step.
    # None mirrors weights. So one node is better where it holds everything and is no slower alone: nothing
    # is read across.
    threads, why = choose_threads(machine.cpu, computes=computes)
    everywhere = Cores(
        threads=threads, processor=host_processor(machine, threads), numa=workload.numa, reasons=(why,)
    )
    nodes = [node for node in machine.nodes if node.cpus]
    if workload.numa is NumaMode.ISOLATE and len(nodes) > 1:
        return _alone(machine, max(nodes, key=_free), "as asked")
    if workload.numa is not None:
        mode = None if workload.numa is NumaMode.OFF else workload.numa
        return replace(everywhere, numa=mode, reasons=(why, f"--numa {workload.numa}, as asked"))
    if len(nodes) < 2 or not computes or not host.weights.n_bytes:
        return everywhere
    if machine.cpu.affinity < machine.cpu.logical_cores:
        allowed = f"{machine.cpu.affinity} of {machine.cpu.logical_cores} CPUs are allowed here"
        reason = f"--numa numactl: {allowed}, and llama.cpp's other modes would leave them"
        return replace(everywhere, numa=NumaMode.NUMACTL, reasons=(why, reason))
    return _one_or_all(machine, nodes, everywhere, host.used_bytes)


def _one_or_all(machine: Machine, nodes: list[MemoryPool], everywhere: Cores, need: int) -> Cores:
    largest = max(nodes, key=_free)
    alone = _alone(machine, largest)
    one, together = weight_rate(alone.processor) / GB, weight_rate(everywhere.processor) / GB
    sizes = ", ".join(f"node {node.node} {format_bytes(_free(node))}" for node in nodes)
    free = f"{format_bytes(need)} on the host, free: {sizes}"
    speeds = f"predicted to read {one:.0f} GB/s of weights, all {len(nodes)} together {together:.0f}"
    if need <= _free(largest) and one >= together:
        return _alone(machine, largest, f"it holds all ({free}) and is {speeds}: nothing is read across")
    if need <= _free(largest):
        fit = f"one node would hold all ({free}), and is {speeds}"
    else:
        fit = f"no node holds all ({free})"
    reason = f"--numa distribute, {everywhere.threads} threads on {len(nodes)} nodes: {fit}"
    return replace(everywhere, numa=NumaMode.DISTRIBUTE, reasons=(*everywhere.reasons, reason))


def _alone(machine: Machine, node: MemoryPool, why: str = "") -> Cores:
    """Return the cores of one node; `taskset` starts the process there, and `isolate` stays."""
    threads, reason = choose_threads(cpu_of_node(machine, node))
    return Cores(
        threads=threads,
        processor=node_processor(machine, threads, len(machine.nodes)),
        numa=NumaMode.ISOLATE,
        node=node,
        reasons=(reason, f"--numa isolate on node {node.node}, by taskset: {why}"),
    )


def describe_page_placement(numa: NumaMode | None, load_mode: LoadMode) -> tuple[str, ...]:
    """Describe on which node the pages of the weights lie, which follows from the load mode."""
    if numa is None:
        return ()
    if load_mode is LoadMode.MMAP:
        return (
            (
                "each mapped page lies on the node whose thread reads it first, and --numa switches "
                "prefetching off so that it is the thread which computes with it; what is in the page cache "
                "already stays where it is (echo 3 > /proc/sys/vm/drop_caches as root), and "
                "kernel.numa_balancing should be 0"
            ),
        )
    if numa is NumaMode.ISOLATE:
        return ("the weights are read in by a thread of that node, and lie there",)
    return (
        (
            f"with load mode {load_mode} one thread reads the weights in, and its node is filled before the "
            "next: --load-mode mmap lets each thread fault in its own rows, without page-locked transfers "
            "to a device"
        ),
    )


def _free(node: MemoryPool) -> int:
    return node.total_bytes if node.free_bytes is None else node.free_bytes


def cpu_of_node(machine: Machine, node: MemoryPool) -> Cpu:
    """Return a node's part of the processor, with cores in proportion to its logical CPUs."""
    cpu = machine.cpu
    share = len(node.cpus) / max(cpu.logical_cores, 1)

    def part(cores: int | None) -> int | None:
        return None if cores is None else max(round(cores * share), 1)

    return replace(
        cpu,
        affinity=len(node.cpus),
        logical_cores=len(node.cpus),
        physical_cores=part(cpu.physical_cores),
        performance_cores=part(cpu.performance_cores),
    )
