"""Predict the seconds for a prompt: products, attention, weights read and sent over for each batch. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.plan.forecast.decode import Stage, socket_share, weight_rate
from launcher.plan.forecast.factors import LAWS, Laws
from launcher.plan.forecast.processors import GB, ProcessorFamily

# Weights from page-locked memory: 0.7 of the link's named speed, and 22 GB/s at most: 205 GB of experts in
# 9.35 s over PCIe 4.0 x16 (S095 to S098 of the public table). Pageable memory is slower (13 to 25 GB/s over
# PCIe 5.0, S205, S283, S284).
_LINK_SHARE = 0.7
_LINK_MOST = 22.0 * GB
OFFLOAD_FROM = 32  # tokens; GGML_OP_OFFLOAD_MIN_BATCH's default (ggml-backend.cpp)
_FULL_HEAD = 128  # values of a head from which attention's kernels are as fast as they get


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """New tokens after cached ones, in batches."""

    n_tokens: int
    ubatch: int
    depth: int  # cached tokens before the first new one

    @property
    def n_batches(self) -> int:
        return math.ceil(self.n_tokens / self.ubatch)

    @property
    def rows(self) -> int:
        """Tokens of a batch."""
        return min(self.n_tokens, self.ubatch)


def prompt_seconds(stages: Sequence[Stage], prompt: Prompt, laws: Laws = LAWS) -> float:
    """Return the seconds for the new tokens."""
    return sum(_seconds(stage, prompt, laws) for stage in stages)


def _seconds(stage: Stage, prompt: Prompt, laws: Laws) -> float:
    processor, factors = stage.processor, laws.of(stage.processor.family)
    on_host = processor.family is ProcessorFamily.HOST
    offloads = prompt.rows >= OFFLOAD_FROM and stage.streamed_bytes > 0
    held, flops = stage.held_bytes, stage.flops
    if on_host and offloads:
        # With op offload (llama.cpp's default) a device computes with the host's weights.
        moved = min(stage.streamed_bytes / held, 1.0) if held else 0.0
        held, flops = held * (1 - moved), flops * (1 - moved)
    arithmetic = processor.flops * (socket_share(processor, laws) if on_host else 1.0)
    rows = max(prompt.rows * stage.expert_share, 1.0)  # that a matrix of weights is multiplied with at once
    products = flops * prompt.n_tokens / (arithmetic * factors.products) * (rows + laws.few_rows) / rows
    reading = prompt.n_batches * held / weight_rate(processor, laws)
    # products and reading overlap; the rest does not
    seconds = max(products, reading) + _attention_seconds(stage, prompt, arithmetic * factors.attention)
    if not on_host and offloads:
        # They cross the link once per ubatch, whatever its size, so a larger ubatch is faster.
        usual = min((processor.link or processor.bandwidth) * _LINK_SHARE, _LINK_MOST)
        link = processor.link_rate or usual
        seconds += prompt.n_batches * stage.streamed_bytes / link
    if stage.paging is not None:
        seconds += prompt.n_batches * stage.paging.seconds(stage.expert_share, prompt.rows)
    seconds += prompt.n_tokens * stage.n_layers * stage.n_embd * factors.value_s
    return seconds + prompt.n_batches * stage.n_layers * factors.layer_s


def _attention_seconds(stage: Stage, prompt: Prompt, rate: float) -> float:
    attention = stage.attention
    middle = prompt.depth + prompt.n_tokens / 2
    flops = prompt.n_tokens * (attention.per_depth * middle + attention.windowed)
    return flops / (rate * min(attention.head_size, _FULL_HEAD) / _FULL_HEAD)
