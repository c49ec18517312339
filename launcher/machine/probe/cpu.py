"""Read the processor: cores, threads, and the instruction sets that ggml has kernels for."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from launcher.machine.machine import Cpu, parse_cpu_list
from launcher.machine.probe.proc_files import KernelFiles

_CPUS = "/sys/devices/system/cpu"

# ggml's name of a feature (ggml/src/ggml-cpu/ggml-cpu.cpp, ggml_backend_cpu_get_features): the kernel's
# flags that must all be there. AVX512 and AMX_INT8 want several (ggml-cpu/arch/x86/cpu-feats.cpp and
# ggml-cpu/CMakeLists.txt).
_X86 = {
    "AVX": ("avx",),
    "AVX_VNNI": ("avx_vnni",),
    "AVX2": ("avx2",),
    "F16C": ("f16c",),
    "FMA": ("fma",),
    "BMI2": ("bmi2",),
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_INT8": ("amx_tile", "amx_int8"),
}
_ARM = {
    "NEON": ("asimd",),
    "FP16_VA": ("asimdhp",),
    "MATMUL_INT8": ("i8mm",),
    "SVE": ("sve",),
    "DOTPROD": ("asimddp",),
    "SME": ("sme",),
}
_APPLE = {
    "NEON": "hw.optional.neon",
    "FP16_VA": "hw.optional.arm.FEAT_FP16",
    "MATMUL_INT8": "hw.optional.arm.FEAT_I8MM",
    "DOTPROD": "hw.optional.arm.FEAT_DotProd",
    "SME": "hw.optional.arm.FEAT_SME",
}


def read_cpu(files: KernelFiles, usable: Collection[int], quota: float | None) -> Cpu:
    """Read the CPU of a Linux host; `usable` are the logical CPUs this process may run on."""
    cpuinfo = files.text("/proc/cpuinfo") or ""
    online = parse_cpu_list(files.text(f"{_CPUS}/online") or "") or tuple(sorted(usable))
    allowed = frozenset(usable) & frozenset(online) or frozenset(online)
    cores = _cores(files, online) or parse_cores(cpuinfo)
    fast = _performance_cpus(files, online)
    mine = {core for core in cores if core & allowed}
    return Cpu(
        name=parse_cpu_name(cpuinfo),
        physical_cores=len(mine) or None,
        performance_cores=len([core for core in mine if core & fast]) or len(mine) or None,
        logical_cores=len(online) or len(allowed),
        affinity=len(allowed),
        quota=quota,
        isa=parse_isa(cpuinfo),
    )


def parse_cpu_name(cpuinfo: str) -> str | None:
    # x86 says `model name`, some ARM boards `Model` or `Hardware`; servers on ARM say nothing
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else None


def parse_isa(cpuinfo: str) -> tuple[str, ...]:
    """Return the features in /proc/cpuinfo (`flags`; on ARM `Features`) by ggml's names, in its order."""
    match = re.search(r"^(flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    if match is None:
        return ()
    has = frozenset(match[2].split())
    return tuple(
        name for name, needs in (_X86 if match[1] == "flags" else _ARM).items() if has.issuperset(needs)
    )


def parse_cores(cpuinfo: str) -> frozenset[frozenset[int]]:
    """Return physical cores as sets of logical CPUs, from `physical id` and `core id` in /proc/cpuinfo.

    Empty if it has none (ARM, some virtual machines).
    """
    cores: dict[tuple[str, str], set[int]] = {}
    for block in cpuinfo.split("\n\n"):
        fields = dict(re.findall(r"^(processor|physical id|core id)\s*:\s*(\d+)$", block, re.MULTILINE))
        if len(fields) == 3:
            cores.setdefault((fields["physical id"], fields["core id"]), set()).add(int(fields["processor"]))
    return frozenset(frozenset(cpus) for cpus in cores.values())


def parse_apple_cpu(sysctl: Mapping[str, str], quota: float | None = None) -> Cpu:
    """Read the CPU of a Mac from `sysctl` values; macOS has no affinity."""
    # hw.perflevel0 are the performance cores (llama.cpp, common/common.cpp,
    # common_cpu_get_num_physical_cores)
    physical, performance, logical = (
        int(sysctl[key]) if sysctl.get(key, "").isdigit() else None
        for key in ("hw.physicalcpu", "hw.perflevel0.physicalcpu", "hw.logicalcpu")
    )
    return Cpu(
        name=sysctl.get("machdep.cpu.brand_string"),
        physical_cores=physical,
        performance_cores=performance or physical,
        logical_cores=logical or os.cpu_count() or 1,
        affinity=logical or os.cpu_count() or 1,
        quota=quota,
        isa=tuple(name for name, key in _APPLE.items() if sysctl.get(key) == "1"),
    )


def _cores(files: KernelFiles, online: Collection[int]) -> frozenset[frozenset[int]]:
    """Return physical cores as sets of logical CPUs, from sysfs; empty unless every CPU tells."""
    cores = set()
    for cpu in online:
        folder = f"{_CPUS}/cpu{cpu}/topology"
        # thread_siblings_list: before Linux 5.3
        text = files.text(f"{folder}/core_cpus_list") or files.text(f"{folder}/thread_siblings_list")
        siblings = parse_cpu_list(text or "")
        if not siblings:
            return frozenset()
        cores.add(frozenset(siblings))
    return frozenset(cores)


def _performance_cpus(files: KernelFiles, online: Collection[int]) -> frozenset[int]:
    """Return the fast logical CPUs; all CPUs if all are alike."""
    # hybrid x86 lists them
    hybrid = parse_cpu_list(files.text("/sys/devices/cpu_core/cpus") or "")
    if hybrid:
        return frozenset(hybrid)
    # ARM gives each CPU a capacity, of which only the lowest step is slow: of a prime, three big and four
    # little cores, four are fast
    capacity = {cpu: files.number(f"{_CPUS}/cpu{cpu}/cpu_capacity") for cpu in online}
    known = {value for value in capacity.values() if value is not None}
    if len(known) < 2:
        return frozenset(online)
    return frozenset(cpu for cpu, value in capacity.items() if value is not None and value > min(known))
