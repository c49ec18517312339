"""Choose the number of threads. Pure."""

from __future__ import annotations

from launcher.machine.machine import Cpu

# Where the host only looks tokens up, its threads wait for devices, and each of them spins as it waits
# (llama-server's --poll 50). No measurement is known; four leave some for lookups of large batches.
_FEW = 4


def choose_threads(cpu: Cpu, *, computes: bool = True) -> tuple[int, str]:
    """Return the number of threads and the reason: never more than the cores that may be used."""
    # llama.cpp's own default is all physical (performance) cores whatever the cgroup says
    # (common/common.cpp, common_cpu_get_num_math). Threads beyond the quota spin against each other: 45
    # times slower in one report.
    limits = [(cpu.affinity, "CPUs this process may run on")]
    if cpu.performance_cores is not None:
        limits.append((cpu.performance_cores, "performance cores"))
    elif cpu.physical_cores is not None:
        limits.append((cpu.physical_cores, "physical cores"))
    else:
        limits.append((cpu.logical_cores, "logical CPUs"))
    if cpu.quota is not None:
        limits.append((int(cpu.quota), f"whole cores in the cgroup's quota of {cpu.quota:g}"))
    count, what = min(limits, key=lambda limit: limit[0])
    threads = max(count, 1)
    if not computes and threads > _FEW:
        return _FEW, f"{_FEW} threads of {threads}: the host computes nothing, and more would only wait"
    return threads, f"{threads} thread{'' if threads == 1 else 's'}, as many as {what}"
