"""Load and check the engine's libraries, and call their functions by C name or C++ symbol.

The files opened are those that libllama loads, so that there is one registry. A library without a function,
with other parameters or another ggml backend interface raises Unavailable.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from ctypes import CDLL, POINTER, Structure, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.simulate.abi import llama_api
from launcher.simulate.abi.layout import (
    BUFT_IN_BUFFER,
    SUPPORTED_API_VERSIONS,
    BufferInterface,
    Registry,
    TensorOffsets,
    buffer_type_of,
)
from launcher.simulate.abi.layout_check import Unavailable, check_layouts

_LAST_OP = "GLU"  # the last entry of enum ggml_op before GGML_OP_COUNT (ggml/include/ggml.h)
_MAX_OPS = 256

# The first ggml whose graph_optimize is known to have a third argument (ggml_backend_graph_optimize_params).
# 0.20.0 has two under the same GGML_BACKEND_API_VERSION. Versions between them are taken to have two: reading
# an argument that is not there is fatal, ignoring one moves little.
_FIRST_WITH_ALLOC_DEPS = (0, 25, 3)

# functions that llama.cpp has only for C++ (src/llama-ext.h, src/llama-context.h)
_RESERVE = "_Z19llama_graph_reserveP13llama_contextjjj"
_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"
_SCHEDULER = "_ZNK13llama_context9get_schedEv"
_TENSORS = "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model"


class StdMap(Structure):
    """libstdc++'s std::map of any types (bits/stl_tree.h)."""

    _fields_ = (
        ("compare", c_uint64),  # comparator
        ("color", c_uint64),  # of the header node, like the next three
        ("root", c_void_p),
        ("left", c_void_p),
        ("right", c_void_p),
        ("count", c_size_t),
    )


class _StdVector(Structure):
    _fields_ = (("begin", c_size_t), ("end", c_size_t), ("capacity", c_size_t))


_Function = tuple[str, Any, tuple[Any, ...]]
_BASE: tuple[_Function, ...] = (
    ("ggml_commit", c_char_p, ()),
    ("ggml_version", c_char_p, ()),
    ("ggml_op_name", c_char_p, (c_int,)),
    ("ggml_nbytes", c_size_t, (c_void_p,)),
    ("ggml_backend_buft_name", c_char_p, (c_void_p,)),
    ("ggml_backend_buffer_init", c_void_p, (c_void_p, BufferInterface, c_void_p, c_size_t)),
    ("ggml_backend_cpu_buffer_type", c_void_p, ()),
    ("ggml_backend_sched_get_n_backends", c_int, (c_void_p,)),
    ("ggml_backend_sched_get_backend", c_void_p, (c_void_p, c_int)),
    ("ggml_backend_sched_get_buffer_type", c_void_p, (c_void_p, c_void_p)),
    ("ggml_backend_sched_get_buffer_size", c_size_t, (c_void_p, c_void_p)),
    ("ggml_backend_sched_get_n_splits", c_int, (c_void_p,)),
    ("ggml_backend_sched_get_n_copies", c_int, (c_void_p,)),
)
_GGML: tuple[_Function, ...] = (
    ("ggml_backend_register", None, (c_void_p,)),
    ("ggml_backend_reg_count", c_size_t, ()),
    ("ggml_backend_reg_get", c_void_p, (c_size_t,)),
    ("ggml_backend_load_all_from_path", None, (c_char_p,)),
)
_CPP: tuple[_Function, ...] = (
    (_RESERVE, c_void_p, (c_void_p, c_uint32, c_uint32, c_uint32)),
    (_BREAKDOWN, StdMap, (c_void_p,)),
    (_SCHEDULER, c_void_p, (c_void_p,)),
    (_TENSORS, POINTER(_StdVector), (c_void_p,)),
)

# colour, parent, left, right; then key and llama_memory_breakdown_data {model, context, compute}
_MAP_NODE = struct.Struct("4Q4Q")
_TENSOR_ENTRY = 40  # sizeof(std::pair<std::string, ggml_tensor *>); the pointer is the last word


@dataclass(frozen=True, slots=True)
class BreakdownEntry:
    """Bytes of one buffer type in llama_get_memory_breakdown."""

    model: int
    context: int
    compute: int


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """A loaded weight and the buffer type it was put in."""

    address: int
    name: str
    type: int  # enum ggml_type
    buffer_type: str


class Binding:
    """The loaded libraries. Raises Unavailable if they cannot be used."""

    def __init__(self, lib_dir: Path, version: str | None = None) -> None:
        try:
            self.base = CDLL(str(lib_dir / "libggml-base.so.0"))
            self.ggml = CDLL(str(lib_dir / "libggml.so.0"))
            self.llama = CDLL(str(lib_dir / "libllama.so.0"))
            self._declare()
            llama_api.declare(self.llama)
            check_layouts(self.base)
        except (OSError, AttributeError) as error:
            raise Unavailable(f"the engine's libraries in {lib_dir} cannot be loaded: {error}") from error
        self.api_version = self._read_api_version(lib_dir)
        self.buffer_type = buffer_type_of(self.api_version)
        self.op_names = self._read_op_names()
        self.has_alloc_deps = self._ggml_version() >= _FIRST_WITH_ALLOC_DEPS
        # the name in answers, by default with the commit that the libraries state
        self.engine = f"llama.cpp {version or self._commit()}"

    def _commit(self) -> str:
        """Return the commit that the library was built from, or its version of ggml."""
        raw: bytes = self.base.ggml_commit()
        commit = raw.decode()
        # source archives do not know their commit
        return commit if commit != "unknown" else f"with ggml {'.'.join(map(str, self._ggml_version()))}"

    def _ggml_version(self) -> tuple[int, ...]:
        version: bytes = self.base.ggml_version()
        return tuple(int(number) for number in re.findall(r"\d+", version.decode()))

    def _declare(self) -> None:
        for library, functions in ((self.base, _BASE), (self.ggml, _GGML), (self.llama, _CPP)):
            for name, result, arguments in functions:
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments

    def _read_api_version(self, lib_dir: Path) -> int:
        """Return the version that every registered backend states. Raises Unavailable for an unknown one."""
        if not self.ggml.ggml_backend_reg_count():
            # An engine built with GGML_BACKEND_DL registers nothing by itself: its backends are plugins in
            # its folder, and of those for the processor the best for this one is taken.
            self.ggml.ggml_backend_load_all_from_path(os.fsencode(lib_dir))
        n_registered = self.ggml.ggml_backend_reg_count()
        addresses = (self.ggml.ggml_backend_reg_get(index) for index in range(n_registered))
        versions: set[int] = {Registry.from_address(address).api_version for address in addresses}
        if not versions:
            raise Unavailable(f"the engine in {lib_dir} has no backend, not even for the processor")
        if len(versions) > 1 or not versions <= set(SUPPORTED_API_VERSIONS):
            spoken = ", ".join(str(version) for version in sorted(versions))
            known = ", ".join(str(version) for version in SUPPORTED_API_VERSIONS)
            raise Unavailable(
                f"the engine speaks ggml backend interface {spoken}; this simulator knows {known}"
            )
        return versions.pop()

    def _read_op_names(self) -> tuple[str, ...]:
        names: list[str] = []
        while len(names) < _MAX_OPS and (not names or names[-1] != _LAST_OP):
            names.append(self.base.ggml_op_name(len(names)).decode())
        return tuple(names)

    def _cpp(self, symbol: str, *arguments: Any) -> Any:
        return getattr(self.llama, symbol)(*arguments)

    def cpp_function(self, symbol: str, result: Any, arguments: tuple[Any, ...]) -> Any:
        """Declare and return a function of libllama's C++ interface. Raises AttributeError."""
        function = getattr(self.llama, symbol)
        function.restype, function.argtypes = result, arguments
        return function

    def buffer_type_name(self, buft: int) -> str:
        name: bytes = self.base.ggml_backend_buft_name(buft)
        return name.decode()

    def reserve(self, context: int, n_tokens: int, n_seqs: int, n_outputs: int) -> tuple[int, int]:
        """Reserve a graph on the context's scheduler; return its address and number of graph splits.

        The address is valid until the next graph is reserved. Raises MemoryError.
        """
        graph = self._cpp(_RESERVE, context, n_tokens, n_seqs, n_outputs)
        if graph is None:
            raise MemoryError("llama.cpp could not reserve the compute graph")
        return graph, self.base.ggml_backend_sched_get_n_splits(self._cpp(_SCHEDULER, context))

    def sched_copies(self, context: int) -> int:
        copies: int = self.base.ggml_backend_sched_get_n_copies(self._cpp(_SCHEDULER, context))
        return copies

    def compute_bytes(self, context: int) -> dict[str, int]:
        """Return the bytes that the scheduler has reserved, by buffer type."""
        scheduler = self._cpp(_SCHEDULER, context)
        sizes: dict[str, int] = {}
        for index in range(self.base.ggml_backend_sched_get_n_backends(scheduler)):
            backend = self.base.ggml_backend_sched_get_backend(scheduler, index)
            name = self.buffer_type_name(self.base.ggml_backend_sched_get_buffer_type(scheduler, backend))
            size = self.base.ggml_backend_sched_get_buffer_size(scheduler, backend)
            sizes[name] = sizes.get(name, 0) + size
        return sizes

    def breakdown(self, context: int) -> dict[str, BreakdownEntry]:
        """Call llama_get_memory_breakdown; return its entries by buffer type."""
        tree = self._cpp(_BREAKDOWN, context)
        entries = tuple(walk_map(tree.root, _MAP_NODE))
        if len(entries) != tree.count:
            raise Unavailable("llama_get_memory_breakdown answers in a form this simulator does not know")
        return {self.buffer_type_name(key): BreakdownEntry(*data) for key, *data in entries}

    def tensors(self, model: int) -> Iterator[PlacedTensor]:
        """Yield every loaded weight in loading order; a tied embedding comes twice."""
        entries = self._cpp(_TENSORS, model).contents
        for entry in range(entries.begin, entries.end, _TENSOR_ENTRY):
            tensor = c_size_t.from_address(entry + _TENSOR_ENTRY - 8).value
            buffer = c_size_t.from_address(tensor + TensorOffsets.BUFFER).value
            yield PlacedTensor(
                address=tensor,
                name=ctypes.string_at(tensor + TensorOffsets.NAME).decode(errors="replace"),
                type=c_int.from_address(tensor + TensorOffsets.TYPE).value,
                buffer_type=self.buffer_type_name(c_size_t.from_address(buffer + BUFT_IN_BUFFER).value),
            )


def walk_map(node: int | None, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
    """Yield key and value of every node of a std::map, in order; `node` is the address of its root.

    `layout` is that of a node: colour, parent, left, right (bits/stl_tree.h), then key and value.
    """
    if node:
        _, _, left, right, *entry = layout.unpack(ctypes.string_at(node, layout.size))
        yield from walk_map(left, layout)
        yield tuple(entry)
        yield from walk_map(right, layout)
