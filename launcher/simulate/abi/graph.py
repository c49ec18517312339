"""Read a ggml_cgraph from memory, and answer ggml's own questions about it (ggml/src/ggml.c, ggml-impl.h).

Only what the backends' graph optimisations look at: operations, sources, views, flags and use counts.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from ctypes import c_int, c_size_t
from dataclasses import dataclass

from launcher.simulate.abi.layout import Buffer, Graph, TensorOffsets
from launcher.simulate.abi.ops import Op, decode_op

KeepAlive = Callable[[int, int], None]
"""add_alloc_dep: the tensor at the first address stays allocated until the node at the second has run."""

# operations without computation: is_empty of ggml_vk_graph_optimize, ggml_op_is_empty
_EMPTY_OPS = frozenset(("NONE", "RESHAPE", "TRANSPOSE", "VIEW", "PERMUTE"))
# enum ggml_tensor_flag (ggml/include/ggml.h)
_FLAG_OUTPUT, _FLAG_PARAM, _FLAG_COMPUTE = 2, 4, 16
_USAGE_WEIGHTS = 1  # GGML_BACKEND_BUFFER_USAGE_WEIGHTS (ggml/include/ggml-backend.h)
_NODE = struct.Struct("i64si10QQ")  # struct ggml_tensor from `op` to `view_src`


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph; tensors are named by their addresses."""

    address: int
    op: str
    sources: tuple[int, ...]  # 0 where there is none
    source_set: frozenset[int]
    source_bases: frozenset[int]
    base: int  # what it is a view of, or itself
    flags: int
    unary: int  # op_params[0], the kind of a UNARY or GLU

    @property
    def is_empty(self) -> bool:
        return self.op in _EMPTY_OPS

    @property
    def view_source(self) -> int:
        """The tensor it is a view of, 0 if it is no view."""
        return self.base if self.base != self.address else 0


class GraphView:
    """The nodes of a graph, or of a split of a graph, in order."""

    def __init__(self, address: int, names: tuple[str, ...]) -> None:
        self._graph = Graph.from_address(address)
        self._names = names
        self._bases: dict[int, int] = {}
        count = self._graph.n_nodes
        self.addresses: tuple[int, ...] = tuple(
            (c_size_t * count).from_address(ctypes.addressof(self._graph.nodes.contents)) if count else ()
        )
        self.ops = tuple(
            names[c_int.from_address(address + TensorOffsets.OP).value] for address in self.addresses
        )
        self._nodes: list[Node | None] = [None] * count

    def __len__(self) -> int:
        return len(self.addresses)

    def node(self, index: int) -> Node:
        """Return the node at an index."""
        node = self._nodes[index]
        if node is None:  # read when it is first asked for
            node = self._nodes[index] = self._read(self.addresses[index])
        return node

    def write_order(self, order: Sequence[int]) -> None:
        """Reorder the nodes in memory: `order[i]` is the index of the node that comes i-th."""
        array = (c_size_t * len(order)).from_address(ctypes.addressof(self._graph.nodes.contents))
        array[:] = [self.addresses[index] for index in order]

    def op(self, index: int) -> Op:
        """Return the operation at an index with its tensors decoded."""
        return decode_op(ctypes.string_at(self.addresses[index], TensorOffsets.HEAD_SIZE), self._names)

    def op_at(self, address: int) -> Op:
        return decode_op(ctypes.string_at(address, TensorOffsets.HEAD_SIZE), self._names)

    def n_uses(self, index: int) -> int:
        """Return how many nodes of the whole graph use this one (ggml_node_get_use_count)."""
        graph, address = self._graph, self.addresses[index]
        size, keys, used = graph.hash_size, graph.hash_keys, graph.hash_used
        slot = (address >> 4) % size  # ggml_hash, then linear probing as ggml_hash_find does
        for _ in range(size):
            if not used[slot >> 5] >> (slot & 31) & 1:
                return 0
            if keys[slot] == address:
                count: int = graph.use_counts[slot]
                return count
            slot = (slot + 1) % size
        return 0

    def can_fuse(self, indices: Sequence[int], ops: Sequence[str], outputs: Sequence[int]) -> bool:
        """Return True if these nodes can become one operation (ggml_can_fuse_subgraph_ext)."""
        if any(index >= len(self) for index in indices):
            return False
        members = {self.node(index).address for index in indices}
        for position, (index, op) in enumerate(zip(indices, ops, strict=True)):
            node = self.node(index)
            if node.op != op or not node.flags & _FLAG_COMPUTE:
                return False
            if index in outputs:
                continue
            if node.flags & _FLAG_OUTPUT:
                return False
            # every use of an inner node must lie inside
            uses = sum(self.node(later).sources.count(node.address) for later in indices[position + 1 :])
            if uses != self.n_uses(index):
                return False
            if not self._views_inside(node, members):
                return False
        return True

    def _views_inside(self, node: Node, members: set[int]) -> bool:
        view = node.view_source
        while view:
            if view not in members and not _is_constant(view):
                return False
            view = c_size_t.from_address(view + TensorOffsets.VIEW_SRC).value
        return True

    def _read(self, address: int) -> Node:
        code, params, flags, *rest = _NODE.unpack(ctypes.string_at(address + TensorOffsets.OP, _NODE.size))
        sources = tuple(rest[:-1])
        present = tuple(source for source in sources if source)
        return Node(
            address=address,
            op=self._names[code],
            sources=sources,
            source_set=frozenset(present),
            source_bases=frozenset(self._base(source) for source in present),
            base=rest[-1] or address,
            flags=flags,
            unary=int.from_bytes(params[:4], "little"),
        )

    def _base(self, address: int) -> int:
        base = self._bases.get(address)
        if base is None:
            base = c_size_t.from_address(address + TensorOffsets.VIEW_SRC).value or address
            self._bases[address] = base
        return base

    def source_op(self, address: int) -> str:
        """Return the name of the operation that makes a source; NONE for weights and inputs."""
        return self._names[c_int.from_address(address + TensorOffsets.OP).value]


def _is_constant(tensor: int) -> bool:
    buffer = c_size_t.from_address(tensor + TensorOffsets.BUFFER).value
    if not buffer:
        return False
    usage = c_int.from_address(buffer + Buffer.usage.offset).value
    return (
        usage == _USAGE_WEIGHTS and not c_int.from_address(tensor + TensorOffsets.FLAGS).value & _FLAG_PARAM
    )
