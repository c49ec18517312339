"""Predict the seconds for one token: each processor in turn reads its weights and caches once. Pure.

Constants are fitted by hand to the public measurements of tests/plan/forecast/speeds.csv, training rigs only
(test_calibration.py has the errors on the others).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.plan.forecast.processors import GB, Processor, ProcessorFamily


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
    streamed_bytes: float = (
        0.0  # the host's weights that a device computes with in prompt processing (op offload)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """The parts of the named bandwidth that are reached, and the seconds that a layer costs besides."""

    weights: float
    cache: float
    latent_cache: float
    launch_s: float


EFFICIENCY = {
    ProcessorFamily.CUDA: Efficiency(weights=0.70, cache=0.50, latent_cache=0.16, launch_s=60e-6),
    ProcessorFamily.METAL: Efficiency(weights=0.65, cache=0.23, latent_cache=0.10, launch_s=155e-6),
    ProcessorFamily.OTHER_GPU: Efficiency(weights=0.60, cache=0.40, latent_cache=0.12, launch_s=200e-6),
    ProcessorFamily.HOST: Efficiency(weights=0.78, cache=0.12, latent_cache=0.04, launch_s=60e-6),
}
_CORE_RATE = 18.0 * GB  # bytes of quantised weights that one core multiplies in a second
# The part that a second socket adds to the first: threads read across, weights are not mirrored.
_SECOND_SOCKET = 0.35


def token_seconds(stages: Iterable[Stage], depth: int) -> float:
    """Return the seconds for one token when `depth` tokens are cached."""
    return sum(_seconds(stage, depth) for stage in stages)


def _seconds(stage: Stage, depth: int) -> float:
    processor = stage.processor
    shares = EFFICIENCY[processor.family]
    # weights / (bandwidth x share) + caches at this depth / (bandwidth x share) + layers x launch
    cache = (
        stage.kv_bytes
        * depth
        / (processor.bandwidth * (shares.latent_cache if stage.latent else shares.cache))
    )
    return stage.read_bytes / weight_rate(processor) + cache + stage.n_layers * shares.launch_s


def weight_rate(processor: Processor) -> float:
    """Return the bytes/s at which a processor gets through weights."""
    reached = processor.bandwidth * EFFICIENCY[processor.family].weights
    if processor.family is not ProcessorFamily.HOST:
        return reached
    # A host is limited by its memory and its cores together:
    # 1 / rate = 1 / (share x bandwidth) + 1 / (cores x what a core can unpack).
    spread = (1 + (processor.sockets - 1) * _SECOND_SOCKET) / processor.sockets
    return spread / (1 / reached + 1 / (max(processor.cores, 1) * _CORE_RATE))
