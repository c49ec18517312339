"""Describe one graphics card, as its driver reports it and as its maker names it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.machine.machine import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A graphics card."""

    key: str  # what people type: 3090
    name: str  # its driver's
    backend: Backend
    source: str  # of the total and the reserve
    total_mib: int | None = None  # None: the memory is the machine's own (Apple silicon, APUs)
    reserved_mib: int = 0
    pcie_generation: int | None = None
    pcie_width: int | None = None
    compute_capability: str | None = None
    gb_s: float  # memory bandwidth as named by the maker
    # 10^12 operations a second of the arithmetic that llama.cpp multiplies quantised matrices with on this
    # card, dense, as named: INT8 on tensor cores, matrix cores or dot products, FP16 where there are none
    tera_ops: float
    ram_gib: tuple[int, ...] = ()  # sizes of unified memory that are sold with this variant; empty for any
