"""Do to a graph what its backend does before memory is given out, as far as it moves memory."""

from __future__ import annotations

from launcher.simulate.abi.graph import GraphView, KeepAlive
from launcher.simulate.abi.layout import OptimizeParams
from launcher.simulate.backends.fuse_cuda import keep_fused_inputs
from launcher.simulate.backends.reorder_vulkan import reorder
from launcher.simulate.backends.traits import Optimizer


def optimize(optimizer: Optimizer, graph: int, params: int | None, names: tuple[str, ...]) -> None:
    """Change the ggml_cgraph at address `graph` as the backend's graph_optimize does."""
    # `params`: ggml_backend_graph_optimize_params; an older ggml has none and keeps nothing alive
    view, keep_alive = GraphView(graph, names), _keep_alive(params) if params else None
    if optimizer is Optimizer.VULKAN:
        view.write_order(reorder(view, keep_alive))
    elif optimizer is Optimizer.CUDA and keep_alive:
        keep_fused_inputs(view, keep_alive)


def _keep_alive(params: int) -> KeepAlive:
    record = OptimizeParams.from_address(params)
    user_data = record.user_data
    return lambda tensor, until: record.add_alloc_dep(user_data, tensor, until)
