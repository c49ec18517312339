"""What backends do to a graph before its memory is given out, as far as it moves memory."""

from __future__ import annotations

from launcher.simulate.traits import Optimizer


def optimize(optimizer: Optimizer, graph: int, params: int, names: tuple[str, ...]) -> None:
    """Do to the ggml_cgraph at `graph` what the backend's graph_optimize does."""
    _ = optimizer, graph, params, names
