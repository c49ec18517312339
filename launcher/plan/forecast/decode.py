"""Predict the seconds for one token: each processor in turn reads its weights and caches once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.machine.machine import FAULT_BYTES
from launcher.plan.forecast.factors import CORE_RATE, LAWS, WHOLE_LAYER_S, Laws
from launcher.plan.forecast.head_time import head_time
from launcher.plan.forecast.processors import Processor, ProcessorFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The arithmetic of attention for one new token."""

    per_depth: float = 0.0  # FLOPs for each token that is cached, in blocks without a window
    windowed: float = 0.0  # FLOPs in sliding blocks, whose window is full
    window: int = 0  # tokens of it; 0: not known, counted as full
    head_size: int = 128  # values of a key

    def at(self, depth: int) -> float:
        """Return the FLOPs of one new token after `depth` cached ones."""
        full = min(depth / self.window, 1.0) if self.window else 1.0
        return self.per_depth * depth + self.windowed * full


NO_ATTENTION = Attention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Experts that are pages of the file, of which the RAM holds a part."""

    n_bytes: int  # of all of them
    missing_bytes: int  # for which there is no RAM
    piece_bytes: float  # of one expert's matrix, which lies in one place
    rate: float  # bytes/s of random reads of the size of a page fault
    measured: bool  # the rate; False for a guess

    def seconds(self, expert_share: float, rows: int = 1) -> float:
        """Return the seconds that reading takes for so many tokens at once."""
        touched = self.n_bytes * (1 - (1 - expert_share) ** rows)
        # A batch that passes over more than there is room for finds nothing of the one before: the kernel has
        # dropped what it begins with. Single tokens touch any expert, and find those that are there.
        held = self.n_bytes - self.missing_bytes
        missed = touched if touched > held else touched * self.missing_bytes / self.n_bytes
        # what is read ahead at the end of a piece is of no use
        return missed * (1 + FAULT_BYTES / self.piece_bytes) / self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The part of one processor in every token."""

    processor: Processor
    n_layers: float
    read_bytes: float  # weights read for one token; of routed experts the share that is used
    held_bytes: float  # all weights it computes with
    flops: float  # arithmetic of one token
    kv_bytes: float  # caches read for each token of depth
    whole_layers: float = 0.0  # of a host: layers of which it computes attention and norms too
    latent: bool = False  # the caches are MLA's
    cache_types: tuple[str, str] = ("f16", "f16")  # of keys, of values, as -ctk and -ctv take them
    # the host's weights that a device computes with in prompt processing (op offload)
    streamed_bytes: float = 0.0
    attention: Attention = NO_ATTENTION
    n_embd: int = 0
    expert_share: float = 1.0  # of the tokens of a batch that an expert sees; 1 for dense models
    paging: Paging | None = None  # of a host, whose RAM is too small for its experts


def token_seconds(stages: Iterable[Stage], depth: int, laws: Laws = LAWS) -> float:
    """Return the seconds for one token when `depth` tokens are cached."""
    return sum(_seconds(stage, depth, laws) for stage in stages)


def _seconds(stage: Stage, depth: int, laws: Laws) -> float:
    processor = stage.processor
    factors = laws.of(processor.family)
    # weights / (bandwidth x share) + caches at this depth / (bandwidth x share) + layers x launch
    if processor.family is ProcessorFamily.HOST:
        cache = _host_cache_seconds(stage, depth, laws) + stage.whole_layers * WHOLE_LAYER_S
    else:
        cache = _cache_seconds(stage, depth, laws)
    paged = stage.paging.seconds(stage.expert_share) if stage.paging else 0.0
    return stage.read_bytes / weight_rate(processor, laws) + cache + stage.n_layers * factors.layer_s + paged


def _cache_seconds(stage: Stage, depth: int, laws: Laws) -> float:
    factors = laws.of(stage.processor.family)
    share = factors.latent_cache if stage.latent else factors.cache
    return stage.kv_bytes * depth / (stage.processor.bandwidth * share)


def _host_cache_seconds(stage: Stage, depth: int, laws: Laws) -> float:
    """Return the seconds of attention: each query head passes over the cache, which comes from RAM once."""
    processor, attention = stage.processor, stage.attention
    rates = dict(processor.attention_rates)
    times = [head_time(attention.head_size, kind, rates, laws.head_time) for kind in stage.cache_types]
    cores = max(processor.cores, 1) * socket_share(processor, laws)
    flops = 4 * attention.head_size  # of a head for one cached token
    heads = attention.at(depth) / flops * sum(time.near for time in times) / 2 / cores
    far = [time.far for time in times if time.far is not None]
    if len(far) < len(times):
        return heads + _cache_seconds(stage, depth, laws)
    n_bytes = stage.kv_bytes * depth
    # a head of the cache has as many bytes of F16 (`caches_as_read`) as a head of the query has FLOPs
    fetched = n_bytes / flops * sum(far) / len(far) / cores
    return heads + max(fetched, n_bytes / (processor.bandwidth * laws.of(processor.family).weights))


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
    # A host unpacks what it has while the next is on its way: the slower of memory and cores decides.
    unpacked = max(processor.cores, 1) * _core_rate(processor)
    return socket_share(processor, laws) * min(reached, unpacked)


def socket_share(processor: Processor, laws: Laws = LAWS) -> float:
    """Return the part of all sockets' memory and cores that counts: threads read across."""
    return (1 + (processor.sockets - 1) * laws.second_socket) / processor.sockets
