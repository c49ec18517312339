"""Find the tables that are read by rows from the file, and say what that costs. Pure.

As llama_model_loader::lazy_read and llama_model_base::load_tensors (src/) at llama.cpp 0c1e570.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from launcher.gguf.architecture import Architecture
from launcher.gguf.header import TensorInfo, Value
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import LazyMode, LoadMode, TensorOverride
from launcher.plan.oracle import Question
from launcher.plan.overrides import first_match
from launcher.units import GIB, format_bytes

# lazy_read::add, auto_min_size: smaller tables are slower when they are read on demand.
_AUTO_BYTES = 4 * GIB
_TABLE = "per_layer_token_embd.weight"
# Architectures that mark it TENSOR_READ_LAZY (src/models); gemma3n does not.
_MARKED = frozenset({"gemma4", "qwen4exp"})
# Backends whose integrated devices lack `mmap_support` (ggml-cuda.cu, ggml-vulkan.cpp, get_props).
_CANNOT_MAP = (Backend.CUDA, Backend.HIP, Backend.VULKAN)

_PAGE_BYTES = 4096
# Seconds for one read of a page that is not in the page cache. SSD: 1.1 s more for the 8192 rows of a prompt
# of 512 tokens (ggml-org/llama.cpp#28160, 406 and 216 tokens/s). A disk that turns: seek and half a turn; 16
# rows a token took 22 tokens/s to 5 (unslothai/llama.cpp#169).
_SSD_READ = 0.13e-3
_DISK_READ = 10e-3


def cannot_map(devices: Iterable[Device]) -> Device | None:
    """Return the first device for which llama.cpp's `auto` modes do not map files, if there is one."""
    return next((d for d in devices if d.shares_host_memory and d.backend in _CANNOT_MAP), None)


def settled_lazy_mode(mode: LazyMode, devices: Iterable[Device]) -> LazyMode:
    """Return the mode that llama.cpp uses: `auto` is off where a device cannot map files."""
    return LazyMode.OFF if mode is LazyMode.AUTO and cannot_map(devices) else mode


def table_of(tensors: Iterable[TensorInfo]) -> TensorInfo | None:
    """Return the model's table that can be read by rows, if it has one."""
    return next((tensor for tensor in tensors if tensor.name == _TABLE), None)


def find_tables(
    architecture: Architecture,
    tensors: Iterable[TensorInfo],
    lazy_mode: LazyMode,
    *,
    mapped: bool,  # the whole file is, and its pages are not locked
    overrides: Sequence[TensorOverride] = (),
) -> frozenset[str]:
    """Return the names of the tables that are read by rows; `lazy_mode` is settled."""
    table = table_of(tensors)
    if table is None:
        return frozenset()
    large = table.size_bytes > _AUTO_BYTES
    # A lazy table is mapped whatever the load mode and the overrides say.
    lazy = architecture.name in _MARKED and (
        lazy_mode is LazyMode.ON or (large and lazy_mode is LazyMode.AUTO)
    )
    # A mapped one is pages of the file, too; a small one is counted, because it is worth keeping in RAM.
    stays = first_match(overrides)(table.name) in {None, HOST}
    return frozenset({table.name}) if lazy or (mapped and large and stays) else frozenset()


def tables_of_question(
    question: Question, architecture: Architecture, tensors: Iterable[TensorInfo]
) -> frozenset[str]:
    """Return the names of the tables that are read by rows under this question."""
    lazy = settled_lazy_mode(question.lazy_mode, question.devices)
    return find_tables(
        architecture,
        tensors,
        LazyMode.OFF if question.locks_pages else lazy,
        mapped=question.load_mode is LoadMode.MMAP and not question.locks_pages,
        overrides=question.overrides,
    )


def describe_tables(
    tensors: Iterable[TensorInfo],
    metadata: Mapping[str, Value],
    in_file: frozenset[str],
    devices: Sequence[Device],
) -> tuple[str, ...]:
    """Say of a large table where it is, and what reading it costs."""
    table = table_of(tensors)
    if table is None or (table.size_bytes <= _AUTO_BYTES and table.name not in in_file):
        return ()
    name = f"{table.name.removesuffix('.weight')} ({format_bytes(table.size_bytes)})"
    if table.name not in in_file:
        device = cannot_map(devices)
        since = "since llama.cpp's PR 28326 of 2026-09"  # a line of before may have run
        off = "" if device is None else f"--lazy-mode auto is off where {device.id} computes, {since}; "
        marked = metadata.get("general.architecture") in _MARKED
        instead = "--lazy-mode on" if marked else "--load-mode mmap"
        return (f"{name} is read into RAM whole: {off}{instead} reads its rows from the file",)
    rows = _rows_per_token(metadata)
    row_bytes = table.size_bytes // max(math.prod(table.shape[1:]), 1)
    pages = rows * -(-row_bytes // _PAGE_BYTES)
    return (
        f"{name} is read by rows from the file, on demand: it is no need of RAM, only page cache at best",
        (
            f"a token looks up {rows} row{'s' * (rows != 1)} of {row_bytes} B there: next to nothing from "
            f"the page cache; cold, by estimate, up to {_seconds(pages * _SSD_READ)} a token and "
            f"{_seconds(2048 * pages * _SSD_READ)} for a prompt of 2048 from an SSD (0.13 ms a read), "
            f"{_seconds(pages * _DISK_READ)} a token from a disk that turns (10 ms a read)"
        ),
    )


def _rows_per_token(metadata: Mapping[str, Value]) -> int:
    # llm_graph_input_qwen4exp_ple::set_input: a row for each head of each n-gram; gemma4: a row a token
    ngram, heads = metadata.get("qwen4exp.ple.ngram_size"), metadata.get("qwen4exp.ple.heads_per_ngram")
    if isinstance(ngram, int) and isinstance(heads, int):
        return max((ngram - 1) * heads, 1)
    return 1


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
