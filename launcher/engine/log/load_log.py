"""What llama-server says it allocated while it loaded, and how that compares with the plan. PURE.

The measured twin of every planned row. llama-server prints buffer sizes at `-lv 4` (load_tensors in
src/llama-model.cpp, llama_kv_cache, llama_memory_recurrent, sched_reserve in src/llama-context.cpp; 0c1e570).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.plan.amounts import HOST, LedgerRow
from launcher.units import MIB

_BUFFER = re.compile(
    r"(?P<reserved>\bsched_reserve: +)?\b(?P<name>\S+) +(?P<kind>model|KV|RS|compute|output|DSV4 \S+ state) buffer size = *(?P<mib>\d+(?:\.\d+)?) MiB"
)
_PROJECTOR = re.compile(
    r"clip_ctx: CLIP using (?P<name>\S+) backend|load_hparams: model size: *(?P<mib>\d+(?:\.\d+)?) MiB"
)
"""A projector says where it goes, then the size of its file (tools/mtmd/clip.cpp, clip_ctx and load_hparams), once for
images and once for sound."""
_DEVICE = re.compile(r"(?:CUDA|ROCm|Vulkan|MTL|Metal|SYCL)\d*")
_MAPPED = "_Mapped"
_PARTS = {"model": "weights", "compute": "compute", "output": "compute"}
"""Parts of a ledger row by the log's word; every other word names a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedBuffer:
    """One buffer of the log. `name` is llama.cpp's (`CUDA0`, `CUDA_Host`, `CPU_Mapped`), `kind` the log's word."""

    name: str
    kind: str
    n_bytes: int

    @property
    def where(self) -> str:
        """The device that holds it, or HOST."""
        return row_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowComparison:
    """Weights, caches and compute of one row, planned and seen. Mapped weights are in neither: under mmap the log
    counts the whole range of each file, tensors on devices included."""

    where: str
    planned_bytes: int
    seen_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowUsage:
    """What one row held when the log ended, by llama.cpp's own account."""

    where: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def used_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def row_of(name: str) -> str:
    """The ledger's row for a buffer type's name: `CUDA0` is a device, `CPU_Mapped` and `CUDA_Host` are the host."""
    return name if _DEVICE.fullmatch(name) else HOST


def usage_by_row(log: str) -> tuple[RowUsage, ...]:
    """What every row held when the log ended. Weights and caches come in several buffers; a compute buffer that is
    reserved again replaces the one before."""
    sizes: dict[tuple[str, str], int] = {}
    for seen in parse_load_log(log):
        key = (seen.name, seen.kind)
        sizes[key] = seen.n_bytes if seen.kind == "compute" else sizes.get(key, 0) + seen.n_bytes
    return tuple(
        RowUsage(
            where=row,
            weights_bytes=_sum(sizes, row, "weights"),
            kv_bytes=_sum(sizes, row, "kv"),
            compute_bytes=_sum(sizes, row, "compute"),
        )
        for row in sorted({row_of(name) for name, _ in sizes})
    )


def usage_of_row(log: str, where: str) -> RowUsage | None:
    """What one row held; None where the log does not name it."""
    return next((row for row in usage_by_row(log) if row.where == where), None)


def parse_load_log(text: str) -> tuple[LoggedBuffer, ...]:
    """Every buffer the log names, in order. The log's figures are MiB with two decimals.

    A context that gets adapters reserves its compute buffers again in place of the first ones (llama_context,
    set_adapters_lora); the next context begins with its output buffer.
    """
    buffers: list[LoggedBuffer] = []
    reserved: dict[str, int] = {}
    for match in _BUFFER.finditer(text):
        seen = LoggedBuffer(name=match["name"], kind=match["kind"], n_bytes=round(float(match["mib"]) * MIB))
        if seen.kind == "output":
            reserved = {}
        if match["reserved"] and seen.name in reserved:
            buffers[reserved[seen.name]] = seen
            continue
        if match["reserved"]:
            reserved[seen.name] = len(buffers)
        buffers.append(seen)
    return (*buffers, *_projector(text))


def _projector(text: str) -> tuple[LoggedBuffer, ...]:
    """The weights of a multimodal projector, which have no line of their own."""
    name = ""
    for match in _PROJECTOR.finditer(text):
        name = match["name"] or name
        if match["mib"] and name:
            return (LoggedBuffer(name=name, kind="model", n_bytes=round(float(match["mib"]) * MIB)),)
    return ()


def maps_weights(seen: Sequence[LoggedBuffer]) -> bool:
    """Whether weights of the host are read from the file's pages, and not copied."""
    return any(buffer.name.endswith(_MAPPED) for buffer in seen)


def compare_load(planned: Sequence[LedgerRow], seen: Sequence[LoggedBuffer]) -> tuple[RowComparison, ...]:
    """Compare a ledger with a load, row by row; empty where the log says nothing yet."""
    if not seen:
        return ()
    mapped = maps_weights(seen)
    return tuple(
        RowComparison(
            where=row.where,
            planned_bytes=row.kv.n_bytes
            + row.compute.n_bytes
            + (0 if mapped and row.where == HOST else row.weights.n_bytes),
            seen_bytes=sum(
                buffer.n_bytes
                for buffer in seen
                if buffer.where == row.where and not (mapped and row.where == HOST and buffer.kind == "model")
            ),
        )
        for row in planned
    )


def _sum(sizes: Mapping[tuple[str, str], int], row: str, part: str) -> int:
    return sum(
        size for (name, kind), size in sizes.items() if row_of(name) == row and _PARTS.get(kind, "kv") == part
    )
