"""What llama-server says it allocated while it loaded, and how that compares with the plan. PURE.

The measured twin of every planned row. llama-server prints buffer sizes at `-lv 4` (load_tensors in
src/llama-model.cpp, llama_kv_cache, llama_memory_recurrent, sched_reserve in src/llama-context.cpp; 0c1e570).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.plan.plan import HOST
from launcher.units import MIB

_BUFFER = re.compile(
    r"\b(?P<name>\S+) +(?P<kind>model|KV|RS|compute|output|DSV4 \S+ state) buffer size = *(?P<mib>\d+(?:\.\d+)?) MiB"
)
_DEVICE = re.compile(r"(?:CUDA|ROCm|Vulkan|MTL|Metal|SYCL)\d*")
_MAPPED = "_Mapped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One buffer of the log. `name` is llama.cpp's (`CUDA0`, `CUDA_Host`, `CPU_Mapped`), `kind` the log's word."""

    name: str
    kind: str
    n_bytes: int

    @property
    def where(self) -> str:
        """The device that holds it, or HOST."""
        return self.name if _DEVICE.fullmatch(self.name) else HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Weights, caches and compute of one row, planned and seen. Mapped weights are in neither: under mmap the log
    counts the whole range of each file, tensors on devices included."""

    where: str
    planned_bytes: int
    seen_bytes: int


def parse_load_log(text: str) -> tuple[Seen, ...]:
    """Every buffer the log names, in order. The log's figures are MiB with two decimals."""
    return tuple(
        Seen(name=match["name"], kind=match["kind"], n_bytes=round(float(match["mib"]) * MIB))
        for match in _BUFFER.finditer(text)
    )


def compare_load(plan: Mapping[str, Any], seen: Sequence[Seen]) -> tuple[Compared, ...]:
    """The rows of a plan's JSON document against a load; empty where the log says nothing yet."""
    if not seen:
        return ()
    mapped = any(buffer.name.endswith(_MAPPED) for buffer in seen)
    rows = [(row["id"], row) for row in plan.get("devices") or []]
    rows += [(HOST, plan["host"])] if plan.get("host") else []
    return tuple(
        Compared(
            where=where,
            planned_bytes=row["kv_bytes"]
            + row["compute_bytes"]
            + (0 if mapped and where == HOST else row["weights_bytes"]),
            seen_bytes=sum(
                buffer.n_bytes
                for buffer in seen
                if buffer.where == where and not (mapped and where == HOST and buffer.kind == "model")
            ),
        )
        for where, row in rows
    )
