"""Predict the seconds for a prompt: arithmetic, weights read per ubatch, weights sent over. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from launcher.plan.forecast.decode import EFFICIENCY, Stage, weight_rate
from launcher.plan.forecast.processors import GB, ProcessorFamily

# Parts of the named arithmetic that are reached; a host's figure is measured already.
_FLOPS_SHARE = {
    ProcessorFamily.CUDA: 0.10,
    ProcessorFamily.METAL: 0.35,
    ProcessorFamily.OTHER_GPU: 0.28,
    ProcessorFamily.HOST: 1.0,
}
# Weights from page-locked memory: 0.6 of the link's named speed, and no more than 22 GB/s were seen.
_LINK_SHARE = 0.6
_LINK_MOST = 22.0 * GB
_OFFLOAD_FROM = 32  # tokens; GGML_OP_OFFLOAD_MIN_BATCH's default (ggml-backend.cpp)


def prompt_seconds(stages: Sequence[Stage], n_tokens: int, ubatch: int, depth: int) -> float:
    """Return the seconds for `n_tokens` of prompt after `depth` cached ones."""
    n_batches = math.ceil(n_tokens / ubatch)
    offloads = min(n_tokens, ubatch) >= _OFFLOAD_FROM
    return sum(_seconds(stage, n_tokens, n_batches, depth, offloads=offloads) for stage in stages)


def _seconds(stage: Stage, n_tokens: int, n_batches: int, depth: int, *, offloads: bool) -> float:
    processor = stage.processor
    held, flops = stage.held_bytes, stage.flops
    if processor.family is ProcessorFamily.HOST and offloads and stage.streamed_bytes:
        # With op offload (llama.cpp's default) a device computes with the host's weights.
        moved = min(stage.streamed_bytes / held, 1.0) if held else 0.0
        held, flops = held * (1 - moved), flops * (1 - moved)
    arithmetic = n_tokens * flops / (processor.flops * _FLOPS_SHARE[processor.family])
    weights = n_batches * held / weight_rate(processor)
    streamed = 0.0
    if processor.family is not ProcessorFamily.HOST and offloads and stage.streamed_bytes:
        # They cross the link once per ubatch, whatever its size, so a larger ubatch is faster.
        link = min((processor.link or processor.bandwidth) * _LINK_SHARE, _LINK_MOST)
        streamed = n_batches * stage.streamed_bytes / link
    middle = depth + n_tokens / 2
    cache = n_batches * stage.kv_bytes * middle / processor.bandwidth
    return (
        arithmetic
        + weights
        + streamed
        + cache
        + n_batches * stage.n_layers * EFFICIENCY[processor.family].launch_s
    )
