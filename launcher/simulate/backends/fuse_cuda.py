"""Keep the inputs of operations that CUDA fuses alive until the fused operation has run.

This is the memory side of ggml_backend_cuda_graph_optimize (ggml/src/ggml-cuda/ggml-cuda.cu, llama.cpp
0c1e570). Two fusions add such dependencies: the weighted sum of the experts, and the routing that picks them.
Reordering for concurrent streams is off unless GGML_CUDA_GRAPH_OPT is set, and not simulated.
"""

from __future__ import annotations

from launcher.simulate.abi.graph import GraphView, KeepAlive
from launcher.simulate.abi.ops import F32, UNARY_NAMES, Op

_MAX_EXPERTS_USED = 15  # MOE_WEIGHTED_REDUCTION_MAX_EXPERTS
# expert counts that have a kernel (ggml_cuda_should_use_topk_moe): powers of 2 up to the first, and those two
_MAX_ROUTED = 512
_ODD_ROUTED = (288, 576)
# the operations of a gate by its first one's unary kind; SOFT_MAX is the third gate
_GATES = {UNARY_NAMES.index("SIGMOID"): ("UNARY",), UNARY_NAMES.index("SOFTPLUS"): ("UNARY", "SQRT")}
_NORM = ("RESHAPE", "SUM_ROWS", "CLAMP", "DIV", "RESHAPE")


def keep_fused_inputs(graph: GraphView, keep_alive: KeepAlive) -> None:
    """Add the allocation dependencies of the fusions in this graph."""
    index = 0
    while index < len(graph):
        if graph.ops[index] == "MUL":
            index += _keep_weighted_sum(graph, index, keep_alive)
        if index < len(graph) and graph.ops[index] in ("UNARY", "SOFT_MAX"):
            index += _keep_routing(graph, index, keep_alive)
        index += 1


def _keep_weighted_sum(graph: GraphView, index: int, keep_alive: KeepAlive) -> int:
    """Match a weighted sum of experts; return how many further nodes belong to it."""
    # ggml_cuda_match_moe_weighted_reduction
    first = graph.op(index)
    if first.type != F32 or not first.is_contiguous():
        return 0
    match = _split_product(graph, index, first)
    if match is None:
        return 0
    weighted, n_products, kept = match
    n_used, n_tokens = weighted.ne[1], weighted.ne[2] * weighted.ne[3]
    count = 2 * n_used + n_products - 1
    if not 2 <= n_used <= _MAX_EXPERTS_USED or n_tokens <= 0 or index + count > len(graph):
        return 0
    if not _sums_views(graph, index, n_products, weighted):
        return 0
    indices = range(index, index + count)
    last = index + count - 1
    if not graph.can_fuse(indices, [graph.ops[i] for i in indices], (last,)):
        return 0
    for tensor in kept:
        keep_alive(tensor, graph.addresses[last])
    return count - 1


def _split_product(graph: GraphView, index: int, first: Op) -> tuple[Op, int, tuple[int, ...]] | None:
    """Return the weighted experts, how many products make them, and the tensors to keep alive."""
    parts = _experts_and_weights(graph, index, first)
    if parts is None:
        return None
    if index + 1 < len(graph) and graph.ops[index + 1] == "MUL":
        second = graph.op(index + 1)
        outer = _experts_and_weights(graph, index + 1, second)
        if second.type == F32 and second.is_contiguous() and outer and outer[0] == graph.addresses[index]:
            # each expert has a scale
            return second, 2, (parts[0], outer[1], parts[1])
    return first, 1, parts


def _experts_and_weights(graph: GraphView, index: int, product: Op) -> tuple[int, int] | None:
    left, right = graph.node(index).sources[:2]
    for experts, weights in ((left, right), (right, left)):
        e, w = graph.op_at(experts), graph.op_at(weights)
        if e.type != F32 or w.type != F32 or not e.is_contiguous() or not w.is_contiguous():
            continue
        if e.ne == product.ne and w.ne == (1, *product.ne[1:]):
            return experts, weights
    return None


def _sums_views(graph: GraphView, index: int, n_products: int, weighted: Op) -> bool:
    """Return True if the product is followed by one view per expert, added up in order."""
    source = graph.addresses[index + n_products - 1]
    n_used, n_tokens = weighted.ne[1], weighted.ne[2] * weighted.ne[3]
    views: list[int] = []
    n_adds, previous = 0, 0  # `previous` is the address of the last sum
    for i in range(index + n_products, index + 2 * n_used + n_products - 1):
        node = graph.node(i)
        if node.op == "VIEW":
            view = graph.op(i)
            fits = (
                len(views) < n_used
                and node.sources[0] == source
                and node.view_source == source
                and view.ne == (weighted.ne[0], n_tokens, 1, 1)
                and view.nb[:2] == (weighted.nb[0], weighted.nb[2])
                and view.offsets[-1] == len(views) * weighted.nb[1]
            )
            if not fits:
                return False
            views.append(node.address)
            continue
        if node.op != "ADD" or n_adds + 1 >= len(views):
            return False
        left = views[0] if n_adds == 0 else previous
        if node.sources[:2] != (left, views[n_adds + 1]):
            return False
        previous, n_adds = node.address, n_adds + 1
    return len(views) == n_used and n_adds == n_used - 1


def _keep_routing(graph: GraphView, index: int, keep_alive: KeepAlive) -> int:
    """Match an expert selection; return how many further nodes belong to it (ggml_cuda_topk_moe_fusion)."""
    ops = _routing(graph, index)
    if ops is None:
        return 0
    selection = ops.index("VIEW")
    last = index + len(ops) - 1
    indices = range(index, index + len(ops))
    if not graph.can_fuse(indices, ops, (index + selection, last)):
        return 0
    if not _has_kernel(graph, index, index + selection, last):
        return 0
    until = index + len(ops)
    if until >= len(graph):
        return 0
    for i in range(index, until):
        keep_alive(graph.addresses[i], graph.addresses[until])
        for source in graph.node(i).sources:
            if source:
                keep_alive(source, graph.addresses[until])
    return len(ops) - 1


def _routing(graph: GraphView, index: int) -> list[str] | None:
    """Return the operations of the expert selection that begins at `index`, None if there is none."""
    gate = ("SOFT_MAX",) if graph.ops[index] == "SOFT_MAX" else _GATES.get(graph.node(index).unary)
    if gate is None:
        return None
    at = index + len(gate) - 1
    if (
        at >= len(graph)
        or graph.ops[at] != gate[-1]
        or (len(gate) > 1 and graph.node(at).sources[0] != graph.node(index).address)
    ):
        return None
    ops = list(gate)
    # with or without a bias (ADD): the biased probabilities only rank, the weights are the plain ones
    probs = at
    if not _follows(graph, at + 1, "RESHAPE", probs):
        return None
    ops.append("RESHAPE")
    reshaped, at = at + 1, at + 2
    if _follows(graph, at, "ADD", probs):
        ops.append("ADD")
        ranked, at = at, at + 1
    else:
        ranked = probs
    if not _follows(graph, at, "ARGSORT", ranked) or not _follows(graph, at + 1, "VIEW", at):
        return None
    if (
        not _follows(graph, at + 2, "GET_ROWS", reshaped)
        or graph.node(at + 2).sources[1] != graph.node(at + 1).address
    ):
        return None
    ops += ["ARGSORT", "VIEW", "GET_ROWS"]
    at += 3
    if _normalises(graph, at):  # optional, like the scale
        ops += _NORM
        at += len(_NORM)
    if _follows(graph, at, "SCALE", at - 1):
        ops.append("SCALE")
    return ops


def _follows(graph: GraphView, index: int, op: str, of: int) -> bool:
    return (
        index < len(graph) and graph.ops[index] == op and graph.node(index).sources[0] == graph.addresses[of]
    )


def _normalises(graph: GraphView, at: int) -> bool:
    chained = all(_follows(graph, at + i, op, at + i - 1) for i, op in enumerate(_NORM[:3]))
    return (
        chained
        and _follows(graph, at + 3, "DIV", at)
        and graph.node(at + 3).sources[1] == graph.addresses[at + 2]
        and _follows(graph, at + 4, "RESHAPE", at + 3)
    )


def _has_kernel(graph: GraphView, gate: int, selection: int, last: int) -> bool:
    """Return True if a kernel exists (ggml_cuda_should_use_topk_moe, as graph_optimize calls it)."""
    gate_op, ids, weights = graph.op(gate), graph.op(selection), graph.op(last)
    n_expert = ids.nb[1] // ids.nb[0]
    is_power = n_expert & (n_expert - 1) == 0 and n_expert <= _MAX_ROUTED
    if not is_power and n_expert not in _ODD_ROUTED:
        return False
    if not gate_op.source(0).is_contiguous() or not weights.is_contiguous():
        return False
    if gate_op.name == "SOFT_MAX":
        plain = gate_op.param_float(0) == 1.0 and gate_op.param_float(1) == 0.0
        return plain and gate_op.src[1] is None and gate_op.src[2] is None
    return True
