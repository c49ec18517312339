"""Read from the log what llama-server allocated as it loaded, and compare it with the plan. Pure.

llama-server prints buffer sizes at `-lv 4` (load_tensors in
src/llama-model.cpp, llama_kv_cache, llama_memory_recurrent, sched_reserve in src/llama-context.cpp; 0c1e570).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.plan.amounts import HOST, LedgerRow
from launcher.units import MIB

# from the beginning of a word, with bounded parts: time in proportion to the log, whatever is in it
_BUFFER = re.compile(
    r"(?<!\S)(?P<reserved>sched_reserve: {1,16})?(?P<name>\S{1,100}) {1,16}"
    r"(?P<kind>model|KV|RS|compute|output|DSV4 \S{1,20} state)"
    r" buffer size = {0,16}(?P<mib>\d{1,12}(?:\.\d{1,6})?) MiB"
)
# ik_llama.cpp's weights (llm_load_tensors, src/llama.cpp there)
_IK_WEIGHTS = re.compile(
    r"llm_load_tensors: {1,16}(?P<name>\S{1,100}) buffer size = {0,16}(?P<mib>\d{1,12}(?:\.\d{1,6})?) MiB"
)
# A projector says where it goes, then the size of its file (tools/mtmd/clip.cpp, clip_ctx and load_hparams),
# once for images and once for sound.
_PROJECTOR = re.compile(
    r"clip_ctx: CLIP using (?P<name>\S{1,100}) backend"
    r"|load_hparams: model size: {0,16}(?P<mib>\d{1,12}(?:\.\d{1,6})?) MiB"
)
_DEVICE = re.compile(r"(?:CUDA|ROCm|Vulkan|MTL|Metal|SYCL)\d*")
_MAPPED = "_Mapped"
# The part of a ledger row by the log's word; every other word names a cache.
_PARTS = {"model": "weights", "compute": "compute", "output": "compute"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedBuffer:
    """A buffer that the log names."""

    name: str  # llama.cpp's: `CUDA0`, `CUDA_Host`, `CPU_Mapped`
    kind: str  # the log's word
    n_bytes: int

    @property
    def where(self) -> str:
        """The device that holds the buffer, or HOST."""
        return row_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowComparison:
    """Weights, caches and compute of one row, planned and logged, without mapped weights."""

    # Under mmap the log counts the whole range of each file, tensors on devices included.

    where: str
    planned_bytes: int
    logged_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowUsage:
    """What one row held when the log ended."""

    where: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def used_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def row_of(name: str) -> str:
    """Return the ledger's row for a buffer type's name; `CPU_Mapped` and `CUDA_Host` are the host."""
    return name if _DEVICE.fullmatch(name) else HOST


def usage_by_row(log: str) -> tuple[RowUsage, ...]:
    """Return what every row held when the log ended."""
    # Weights and caches come in several buffers; a compute buffer reserved again replaces the one before.
    sizes: dict[tuple[str, str], int] = {}
    for buffer in parse_load_log(log):
        key = (buffer.name, buffer.kind)
        sizes[key] = buffer.n_bytes if buffer.kind == "compute" else sizes.get(key, 0) + buffer.n_bytes
    return tuple(
        RowUsage(
            where=row,
            weights_bytes=_sum_part(sizes, row, "weights"),
            kv_bytes=_sum_part(sizes, row, "kv"),
            compute_bytes=_sum_part(sizes, row, "compute"),
        )
        for row in sorted({row_of(name) for name, _ in sizes})
    )


def usage_of_row(log: str, where: str) -> RowUsage | None:
    """Return what one row held, None if the log does not name it."""
    return next((row for row in usage_by_row(log) if row.where == where), None)


def parse_load_log(text: str) -> tuple[LoggedBuffer, ...]:
    """Return every buffer that the log names, in order. Its figures are MiB with two decimals."""
    # A context that gets adapters reserves its compute buffers again in place of the first ones
    # (llama_context, set_adapters_lora); the next context begins with its output buffer.
    buffers: list[LoggedBuffer] = []
    reserved: dict[str, int] = {}
    for match in _BUFFER.finditer(text):
        buffer = LoggedBuffer(
            name=match["name"], kind=match["kind"], n_bytes=round(float(match["mib"]) * MIB)
        )
        if buffer.kind == "output":
            reserved = {}
        if match["reserved"] and buffer.name in reserved:
            buffers[reserved[buffer.name]] = buffer
            continue
        if match["reserved"]:
            reserved[buffer.name] = len(buffers)
        buffers.append(buffer)
    return (*buffers, *_find_ik_weights(text), *_find_projector(text))


def _find_ik_weights(text: str) -> Iterator[LoggedBuffer]:
    for match in _IK_WEIGHTS.finditer(text):
        yield LoggedBuffer(name=match["name"], kind="model", n_bytes=round(float(match["mib"]) * MIB))


def _find_projector(text: str) -> tuple[LoggedBuffer, ...]:
    """Return the weights of a multimodal projector, which have no line of their own."""
    name = ""
    for match in _PROJECTOR.finditer(text):
        name = match["name"] or name
        if match["mib"] and name:
            return (LoggedBuffer(name=name, kind="model", n_bytes=round(float(match["mib"]) * MIB)),)
    return ()


def maps_weights(logged: Sequence[LoggedBuffer]) -> bool:
    """Tell if weights on the host are the file's own pages, not copies."""
    return any(buffer.name.endswith(_MAPPED) for buffer in logged)


def compare_load(planned: Sequence[LedgerRow], logged: Sequence[LoggedBuffer]) -> tuple[RowComparison, ...]:
    """Compare a ledger with a load, row by row; empty if the log says nothing yet."""
    if not logged:
        return ()
    mapped = maps_weights(logged)
    return tuple(
        RowComparison(
            where=row.where,
            planned_bytes=row.kv.n_bytes
            + row.compute.n_bytes
            + (0 if mapped and row.where == HOST else row.weights.n_bytes),
            logged_bytes=sum(
                buffer.n_bytes
                for buffer in logged
                if buffer.where == row.where and not (mapped and row.where == HOST and buffer.kind == "model")
            ),
        )
        for row in planned
    )


def _sum_part(sizes: Mapping[tuple[str, str], int], row: str, part: str) -> int:
    return sum(
        size for (name, kind), size in sizes.items() if row_of(name) == row and _PARTS.get(kind, "kv") == part
    )
