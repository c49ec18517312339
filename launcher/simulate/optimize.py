"""What backends do to a graph before its memory is given out, as far as it moves memory."""

from __future__ import annotations

from launcher.simulate.fuse_cuda import keep_fused_inputs
from launcher.simulate.graph import GraphView
from launcher.simulate.layout import OptimizeParams
from launcher.simulate.reorder_vulkan import reorder
from launcher.simulate.traits import Optimizer


def optimize(optimizer: Optimizer, graph: int, params: int | None, names: tuple[str, ...]) -> None:
    """Do to the ggml_cgraph at `graph` what the backend's graph_optimize does; `params` is where its
    ggml_backend_graph_optimize_params lie, None in a ggml that has none: there nothing is kept alive."""
    record = OptimizeParams.from_address(params) if params else None

    def keep_alive(tensor: int, until: int) -> None:
        if record is not None:
            record.add_alloc_dep(record.user_data, tensor, until)

    view = GraphView(graph, names)
    if optimizer is Optimizer.VULKAN:
        view.write_order(reorder(view, keep_alive))
    elif optimizer is Optimizer.CUDA:
        keep_fused_inputs(view, keep_alive)
