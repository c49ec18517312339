"""Predict the seconds for one token: each processor in turn reads its weights and caches once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.plan.forecast.factors import CORE_RATE, LAWS, Laws
from launcher.plan.forecast.processors import Processor, ProcessorFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The arithmetic of attention for one new token."""

    per_depth: float = 0.0  # FLOPs for each token that is cached, in blocks without a window
    windowed: float = 0.0  # FLOPs in sliding blocks, whose window is full
    head_size: int = 128  # values of a key


NO_ATTENTION = Attention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The part of one processor in every token."""

    processor: Processor
    n_layers: float
    read_bytes: float  # weights read for one token; of routed experts the share that is used
    held_bytes: float  # all weights it computes with
    flops: float  # arithmetic of one token
    kv_bytes: float  # caches read for each token of depth
    latent: bool = False  # the caches are MLA's
    # the host's weights that a device computes with in prompt processing (op offload)
    streamed_bytes: float = 0.0
    attention: Attention = NO_ATTENTION
    n_embd: int = 0
    expert_share: float = 1.0  # of the tokens of a batch that an expert sees; 1 for dense models


def token_seconds(stages: Iterable[Stage], depth: int, laws: Laws = LAWS) -> float:
    """Return the seconds for one token when `depth` tokens are cached."""
    return sum(_seconds(stage, depth, laws) for stage in stages)


def _seconds(stage: Stage, depth: int, laws: Laws) -> float:
    processor = stage.processor
    factors = laws.of(processor.family)
    # weights / (bandwidth x share) + caches at this depth / (bandwidth x share) + layers x launch
    share = factors.latent_cache if stage.latent else factors.cache
    cache = stage.kv_bytes * depth / (processor.bandwidth * share)
    return stage.read_bytes / weight_rate(processor, laws) + cache + stage.n_layers * factors.layer_s


def compute_seconds(stage: Stage, laws: Laws = LAWS) -> float:
    """Return the seconds that a host's cores need to unpack the weights of one token."""
    cores = max(stage.processor.cores, 1)
    return stage.read_bytes / (socket_share(stage.processor, laws) * cores * _core_rate(stage.processor))


def _core_rate(processor: Processor) -> float:
    return processor.core_rate or CORE_RATE


def weight_rate(processor: Processor, laws: Laws = LAWS) -> float:
    """Return the bytes/s at which a processor gets through weights."""
    reached = processor.bandwidth * laws.of(processor.family).weights
    if processor.family is not ProcessorFamily.HOST:
        return reached
    # A host is limited by its memory and its cores together:
    # 1 / rate = 1 / (share x bandwidth) + 1 / (cores x what a core can unpack).
    one = 1 / reached + 1 / (max(processor.cores, 1) * _core_rate(processor))
    return socket_share(processor, laws) / one


def socket_share(processor: Processor, laws: Laws = LAWS) -> float:
    """Return the part of all sockets' memory and cores that counts: threads read across."""
    return (1 + (processor.sockets - 1) * laws.second_socket) / processor.sockets
