"""Several NUMA nodes: whether the host's weights fit on one, and what llama-server is told."""

from __future__ import annotations

from launcher.machine import Machine
from launcher.plan.plan import LedgerRow, NumaMode, Workload
from launcher.units import format_bytes


def choose_numa(
    machine: Machine, workload: Workload, host: LedgerRow
) -> tuple[NumaMode | None, tuple[str, ...]]:
    """The value of `--numa` and why; None where there is one node, or nothing is computed from host memory.

    `distribute` spreads threads evenly over the nodes (ggml-cpu.c, set_numa_thread_affinity). Nothing mirrors weights:
    each stays on the node whose thread touched it first, and the others read across.
    """
    if workload.numa is not None:
        kept = None if workload.numa is NumaMode.OFF else workload.numa
        return kept, (f"--numa {workload.numa}, as asked",)
    nodes = [node for node in machine.nodes if node.cpus]
    if len(nodes) < 2 or not host.weights.n_bytes:
        return None, ()
    largest = max(node.total_bytes if node.free_bytes is None else node.free_bytes for node in nodes)
    need = host.weights.n_bytes + host.kv.n_bytes + host.compute.n_bytes
    if need <= largest:
        fit = f"the {format_bytes(need)} on the host would fit on one node of {format_bytes(largest)} free"
    else:
        fit = f"the {format_bytes(need)} on the host exceed one node's {format_bytes(largest)}: all nodes are used"
    return NumaMode.DISTRIBUTE, (
        (
            f"--numa distribute: {len(nodes)} nodes, threads on each; {fit}. Page cache that one node holds from an "
            "earlier run stays there (echo 3 > /proc/sys/vm/drop_caches as root spreads it anew)"
        ),
    )
