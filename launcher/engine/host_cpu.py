"""Describe this host's processor as far as compiled code depends on it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from launcher.system.run_program import output_of

# GCC's x86 option list. The other flags (mitigations, virtualisation, power) differ between kernels and say
# nothing about the code.
_X86_FLAGS = """
    sse3 pni ssse3 sse4_1 sse4_2 popcnt movbe abm lzcnt f16c fma avx avx2
    bmi1 bmi2 adx aes pclmulqdq gfni vaes vpclmulqdq sha_ni xop fma4 tbm
    avx_vnni avx_vnni_int8 avx_vnni_int16 avx_ifma avx_ne_convert
"""
_X86_CODE_GENERATION = frozenset(_X86_FLAGS.split())
_X86_FAMILIES = ("avx512", "amx", "avx10")


def code_generation_flags(flags: tuple[str, ...], arch: str) -> tuple[str, ...]:
    """Select the flags that change the code `-march=native` makes."""
    if arch not in {"x86_64", "amd64", "i686"}:
        return tuple(sorted(set(flags)))
    return tuple(
        sorted({flag for flag in flags if flag in _X86_CODE_GENERATION or flag.startswith(_X86_FAMILIES)})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCpu:
    """A processor as code generation depends on it."""

    arch: str
    flags: tuple[str, ...]


def host_cpu() -> HostCpu:
    """Read this machine's processor, leaving out what is unreadable."""
    arch = platform.machine().lower()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        brand = output_of("sysctl", "-n", "machdep.cpu.brand_string").strip()
        return HostCpu(arch=arch, flags=(brand,) if brand else ())
    return HostCpu(arch=arch, flags=code_generation_flags(parse_cpu_flags(text), arch))


def parse_cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """Return the flags that all processors in /proc/cpuinfo have."""
    listed = [
        set(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.startswith(("flags\t", "Features\t", "isa\t"))
    ]
    return tuple(sorted(set.intersection(*listed))) if listed else ()
