"""Reorder a graph as the Vulkan backend does, because memory is given out in the new order.

ggml_vk_graph_optimize (ggml/src/ggml-vulkan/ggml-vulkan.cpp, llama.cpp 0c1e570) moves independent nodes
together, so that they overlap, and keeps the inputs of fused expert routing alive. Steps, names and limits
here are those of the C++ function.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.simulate.abi.graph import GraphView, KeepAlive, Node
from launcher.simulate.abi.ops import UNARY_NAMES

_LOOK_AHEAD = 20  # NUM_TO_CHECK
_PULL_AHEAD = 15
# ggml_vk_unary_mul_op_index
_FUSED_UNARIES = frozenset(UNARY_NAMES.index(name) for name in ("GELU", "SIGMOID", "SILU", "SOFTPLUS"))

# topk_moe_early_softmax_norm, _sigmoid_norm_bias, _sqrt_softplus_norm_bias, _early_softmax, _late_softmax
# (ggml-vulkan-types.h), in the order they are tried
_TOP_K_MOE = tuple(
    tuple(pattern.split())
    for pattern in (
        "SOFT_MAX RESHAPE ARGSORT VIEW GET_ROWS RESHAPE SUM_ROWS CLAMP DIV RESHAPE",
        "UNARY RESHAPE ADD ARGSORT VIEW GET_ROWS RESHAPE SUM_ROWS CLAMP DIV RESHAPE",
        "UNARY SQRT RESHAPE ADD ARGSORT VIEW GET_ROWS RESHAPE SUM_ROWS CLAMP DIV RESHAPE",
        "SOFT_MAX RESHAPE ARGSORT VIEW GET_ROWS",
        "ARGSORT VIEW GET_ROWS RESHAPE SOFT_MAX RESHAPE",
    )
)
_SNAKE = ("MUL", "SIN", "SQR", "MUL", "ADD")
_QSA = ("GET_ROWS", "PERMUTE", "CONT", "CPY", "RESHAPE", "ADD", "TOP_K")
# Kept together since the fusions of rms_norm (ggml-org/llama.cpp#28024), which came after the dependencies of
# allocation (#27301). A ggml without the latter lacks these too, and the dependencies between views
# (_depends).
_NORM_AND_ROPE = tuple(
    tuple(pattern.split())
    for pattern in (
        "RMS_NORM MUL ADD MUL",
        "RMS_NORM MUL ADD",
        "RMS_NORM MUL ROPE VIEW SET_ROWS",
        "RMS_NORM VIEW SET_ROWS",
        "ROPE VIEW SET_ROWS",
    )
)
_HC_POST = ("SCALE", "UNARY", "SCALE", "DSV4_HC_POST")
_KEPT = (_SNAKE, _QSA)
_UNTOUCHABLE = (*_TOP_K_MOE, _SNAKE, _HC_POST)

# a node may follow the last one taken although it depends on it, if the two are fused
_FUSED_NEIGHBOURS = frozenset(
    (
        ("MUL_MAT", "ADD"),
        ("MUL_MAT_ID", "ADD_ID"),
        ("MUL_MAT_ID", "MUL"),
        ("ADD", "ADD"),
        ("SSM_CONV", "ADD"),
        ("SSM_CONV", "UNARY"),
    )
)
# the same, but with only empty or used nodes between them
_FUSED_DISTANT = frozenset((("RMS_NORM", "MUL"), ("UNARY", "MUL")))


def reorder(graph: GraphView, keep_alive: KeepAlive | None) -> list[int]:
    """Return the order in which the Vulkan backend runs the nodes, as indices into the graph.

    `keep_alive` is None for a ggml whose graph_optimize has no such argument.
    """
    return _Reordering(graph, keep_alive).run()


class _Reordering:
    def __init__(self, graph: GraphView, keep_alive: KeepAlive | None) -> None:
        self.graph = graph
        self.nodes = [graph.node(index) for index in range(len(graph))]
        self.keep_alive = keep_alive
        newer = _NORM_AND_ROPE if keep_alive else ()
        self.depends = _depends if keep_alive else _depends_directly
        self.kept, self.untouchable = (*_KEPT, *newer), (*_UNTOUCHABLE, *newer)
        self.used = [False] * len(self.nodes)
        self.done: set[int] = set()  # addresses of the nodes in `order`
        self.order: list[int] = []
        self.first = 0  # the first unused node
        self.current: list[int] = []  # the set that is being taken

    def run(self) -> list[int]:
        while self.first < len(self.nodes):
            if not self._keep_a_pattern():
                self._take_a_set()
        return self.order

    def _matches(self, pattern: tuple[str, ...], start: int) -> bool:
        if start < 0 or start + len(pattern) > len(self.nodes) or self.nodes[start].op != pattern[0]:
            return False
        return all(
            self.nodes[start + k].op == op and not self.used[start + k] for k, op in enumerate(pattern)
        )

    def _keep_a_pattern(self) -> bool:
        """Take a pattern at the first unused node as it is; return False if there is none."""
        for pattern in _TOP_K_MOE:
            if self._matches(pattern, self.first):
                last = self.first + len(pattern) - 1
                if last + 1 < len(self.nodes) and self.nodes[last + 1].op == "SCALE":
                    last += 1
                self._keep_inputs(pattern, last)
                return self._take(range(self.first, self.first + len(pattern)))
        for pattern in self.kept:
            if self._matches(pattern, self.first):
                return self._take(range(self.first, self.first + len(pattern)))
        if self._matches(_HC_POST, self.first):
            self._keep_inputs(_HC_POST, self.first + len(_HC_POST) - 1)
            return self._take(range(self.first, self.first + len(_HC_POST)))
        return False

    def _keep_inputs(self, pattern: tuple[str, ...], last: int) -> None:
        """Keep the inputs of a pattern alive until its last node has run (add_pattern_alloc_deps)."""
        if self.keep_alive is None:
            return
        seen: set[int] = set()
        for node in self.nodes[self.first : self.first + len(pattern)]:
            for source in node.sources:
                if source and source not in seen:
                    seen.add(source)
                    self.keep_alive(source, self.nodes[last].address)
            seen.add(node.address)

    def _take(self, indices: range | list[int]) -> bool:
        for index in indices:
            self.order.append(index)
            self.done.add(self.nodes[index].address)
            self.used[index] = True
        while self.first < len(self.nodes) and self.used[self.first]:
            self.first += 1
        return True

    def _take_a_set(self) -> None:
        """Take the first unused node, and those of the next 19 that need not wait for a node left behind."""
        self.current = [self.first]
        end = min(self.first + _LOOK_AHEAD, len(self.nodes))
        for j in range(self.first + 1, end):
            if self.used[j] or self.nodes[j].is_empty or self._is_protected(j) or self._must_wait(j):
                continue
            self.current.append(j)
            self._pull_followers(j)
        if self.nodes[self.current[-1]].op != "ADD":
            self._add_views(end)
        self._take(self.current)

    def _is_protected(self, j: int) -> bool:
        return any(self._matches(pattern, j) for pattern in self.untouchable) or any(
            self.nodes[j].op == op and self._matches(_QSA, j - offset) for offset, op in enumerate(_QSA)
        )

    def _must_wait(self, j: int) -> bool:
        node = self.nodes[j]
        for c in range(self.first, j):
            if self.used[c] or not self.depends(node, self.nodes[c]):
                continue
            if c != self.current[-1]:
                return True
            pair = (self.nodes[c].op, node.op)
            if j == c + 1 and pair in _FUSED_NEIGHBOURS:
                continue
            if pair in _FUSED_DISTANT and self._only_empty_between(c + 1, j):
                continue
            return True
        return False

    def _only_empty_between(self, low: int, high: int) -> bool:
        return all(self.used[v] or self.nodes[v].is_empty for v in range(low, high))

    def _pull_followers(self, j: int) -> None:
        """Take the nodes too that are fused with the one just taken, from up to 14 places ahead."""
        op, before = self.nodes[j].op, self.nodes[j - 1].op
        rope = self._pull_rope(j) if (before, op) == ("RMS_NORM", "MUL") else j
        if self.nodes[rope].op in ("ROPE", "RMS_NORM"):
            self._pull_set_rows(rope)
        if (before, op) == ("MUL_MAT_ID", "ADD_ID"):
            self._pull(j, "MUL", self._other_source_ready)
        if (before, op) == ("MUL_MAT", "ADD"):
            self._pull(j, "ADD", self._other_source_ready)
        if (before, op) == ("SSM_CONV", "ADD"):
            self._pull(j, "UNARY", lambda j, k: self.nodes[k].sources[0] == self.nodes[j].address)
        if op == "UNARY":
            self._pull(j, "MUL", self._can_fuse_unary_mul)

    def _ahead(self, j: int) -> range:
        return range(j + 1, min(j + _PULL_AHEAD, len(self.nodes)))

    def _pull(self, j: int, op: str, fits: Callable[[int, int], bool]) -> None:
        for k in self._ahead(j):
            if self.nodes[k].op == op and fits(j, k):
                self.current.append(k)
                self.used[k] = True
                return

    def _other_source_ready(self, j: int, k: int) -> bool:
        node = self.nodes[k]
        return node.sources[0] == self.nodes[j].address and self._is_ready(node.sources[1])

    def _is_ready(self, source: int) -> bool:
        return self.graph.source_op(source) == "NONE" or source in self.done

    def _pull_rope(self, j: int) -> int:
        for k in self._ahead(j):
            node = self.nodes[k]
            if (
                node.op == "ROPE"
                and node.sources[0] == self.nodes[j].address
                and self.graph.source_op(node.sources[1]) == "NONE"
                and (not node.sources[2] or self.graph.source_op(node.sources[2]) == "NONE")
            ):
                self.current.append(k)
                self.used[k] = True
                return k
        return j

    def _pull_set_rows(self, rope: int) -> None:
        view = -1
        for k in self._ahead(rope):
            node = self.nodes[k]
            if self.used[k]:
                continue
            if view < 0 and node.op == "VIEW" and node.sources[0] == self.nodes[rope].address:
                view = k
            elif view >= 0 and node.op == "SET_ROWS" and node.sources[0] == self.nodes[view].address:
                self._pull_if_fused(rope, view, k)
                return

    def _pull_if_fused(self, rope: int, view: int, rows: int) -> None:
        if not self.graph.can_fuse((rope, view, rows), (self.nodes[rope].op, "VIEW", "SET_ROWS"), (rows,)):
            return
        for c in range(rope + 1, rows):
            waits = not self.used[c] and c != view and not self.nodes[c].is_empty
            if waits and self.depends(self.nodes[rows], self.nodes[c]):
                return
        self.current += [view, rows]
        self.used[view] = self.used[rows] = True

    def _can_fuse_unary_mul(self, j: int, k: int) -> bool:
        """Return True if the two can be fused (ggml_vk_can_fuse_unary_mul) and the other operand is ready."""
        unary, product = self.nodes[j], self.nodes[k]
        if unary.address not in product.sources[:2]:
            return False
        first = product.sources[0] == unary.address
        other = product.sources[1] if first else product.sources[0]
        if not self._is_ready(other) or unary.unary not in _FUSED_UNARIES:
            return False
        u, p, o = self.graph.op(j), self.graph.op(k), self.graph.op_at(other)
        # GGML_TYPE_F32, GGML_TYPE_F16
        if u.type not in (0, 1) or not u.type == p.type == o.type:
            return False
        if not o.is_contiguous(1) or not u.source(0).is_contiguous(1):
            return False
        small, large = (o, u) if first else (u, o)
        if first:
            return all(b % a == 0 for a, b in zip(small.ne, large.ne, strict=True))
        return u.ne == o.ne or all(b % a == 0 for a, b in zip(small.ne, large.ne, strict=True))

    def _add_views(self, end: int) -> None:
        """Take the views whose sources are taken; this is the second pass."""
        taken = set(self.current)
        for j in range(self.first + 1, end):
            if self.used[j] or not self.nodes[j].is_empty:
                continue
            node = self.nodes[j]
            if all(
                self.used[c] or c in taken or not self.depends(node, self.nodes[c])
                for c in range(self.first, j)
            ):
                self.current.append(j)
                taken.add(j)


def _depends(later: Node, earlier: Node) -> bool:
    """Return True if `later` reads what `earlier` writes, or writes what it reads (is_src_of)."""
    return _depends_directly(later, earlier) or (
        not later.is_empty
        and not earlier.is_empty
        and (earlier.base in later.source_bases or later.base in earlier.source_bases)
    )


def _depends_directly(later: Node, earlier: Node) -> bool:
    """Return True for a source or a view of the same tensor: is_src_of before it looked through views."""
    return earlier.address in later.source_set or later.base == earlier.base
