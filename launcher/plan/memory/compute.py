"""Estimate llama.cpp's compute buffers: the largest moment of the prompt-processing graph. Pure.

The simulator is more exact; this checks it, and stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.architecture import Architecture
from launcher.machine.machine import Backend
from launcher.plan.amounts import Amount, Basis
from launcher.plan.memory.ik import BAND_PERCENT, unpacked_latents
from launcher.plan.memory.kernels import CUDA_GROUPED_HEADS, CUDA_SQUARE_HEADS
from launcher.plan.memory.kv import Caches
from launcher.plan.modes import CacheType, Dialect, FlashAttention
from launcher.plan.parameters import ContextParameters
from launcher.units import MIB

# The laws below were read off 630 simulated reservations (12 models, 0-4 devices, llama.cpp 0c1e570). They
# hold for transformer blocks with dense or mixture-of-experts feed-forward.
_F32 = 4
# GGML_SCHED_MAX_COPIES, ggml/src/CMakeLists.txt: copies of the inputs under pipeline parallelism.
_SCHED_COPIES = 4
_FLOOR_BAND = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBytes:
    attention: int  # of the widest block, scores included
    feed_forward: int  # of the widest block
    masks: int
    embedding: int  # one hidden state of all tokens
    router: int  # added to the embedding where experts are chosen
    logits: int  # the output rows
    kv_f16: int  # an F16 copy of the largest cache, for kernels that need one
    flash_attn: bool  # settled: this backend has a kernel for it
    band_percent: int  # wider for blocks that the laws do not describe
    all_logits: int = 0  # the output layer where every token has a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    backend: Backend
    first: bool  # the first device also computes with weights on the host (op offload)
    last: bool
    n_devices: int
    pipeline: bool
    copied_bytes: int  # the largest tensor on the host
    copied_kv_bytes: int  # the largest cache of a block on the host


def size_graph(
    architecture: Architecture, parameters: ContextParameters, caches: Caches, backend: Backend
) -> GraphBytes:
    n_tokens = parameters.n_tokens
    flash = parameters.flash_attn is not FlashAttention.OFF and _has_flash_attention(architecture, backend)
    cells = sum(caches.cells)
    n_head = max(architecture.n_head)
    q = n_head * architecture.n_embd_head_k
    kv = max(architecture.n_head_kv) * max(architecture.n_embd_head_k, architecture.n_embd_head_v)
    # A block computes attention first and the feed-forward then, so the larger of the two counts, with the
    # tensors that are copied for either (op offload). Without flash attention the scores belong to
    # attention.
    attention = _F32 * n_tokens * (3 * q + 2 * architecture.n_embd + 2 * kv)
    scores = 0 if flash else n_head * caches.cells[0] * n_tokens * _F32
    wide_v = 0 if architecture.is_mla else architecture.n_embd_head_v
    cached_width = max(architecture.n_head_kv) * (architecture.n_embd_head_k + wide_v)
    return GraphBytes(
        attention=attention + scores + unpacked_latents(architecture, parameters),
        feed_forward=_F32 * n_tokens * _feed_forward(architecture),
        masks=cells * n_tokens * (2 if flash else _F32),  # one per cache: F16 under flash attention
        embedding=_F32 * n_tokens * architecture.n_embd,
        router=_F32 * n_tokens * architecture.n_expert,
        logits=_F32 * parameters.n_parallel * (architecture.n_vocab or 0),
        all_logits=_all_logits(architecture, parameters),
        kv_f16=2 * caches.cells[0] * cached_width if _copies_kv(parameters, backend, flash=flash) else 0,
        flash_attn=flash,
        band_percent=_band_percent(architecture, parameters, caches),
    )


def _band_percent(architecture: Architecture, parameters: ContextParameters, caches: Caches) -> int:
    if parameters.dialect is Dialect.IK:
        return BAND_PERCENT
    regular = architecture.recurrence is None and not architecture.indexer_key_length and not caches.band
    return 15 if regular else 100


def _all_logits(architecture: Architecture, parameters: ContextParameters) -> int:
    n_tokens = parameters.n_tokens
    if parameters.dialect is Dialect.IK and not parameters.all_outputs:
        # it reserves a row of logits for every token: 151,936 x 512 x 4 B of log M030's 312.75 MiB
        return _F32 * n_tokens * ((architecture.n_vocab or 0) + 2 * architecture.n_embd)
    if not parameters.all_outputs:
        return 0
    # logits and hidden state of each token, and where states are pooled a matrix of tokens by tokens
    pooled = n_tokens + 4 * architecture.n_embd if parameters.embedding else 0
    return _F32 * n_tokens * ((architecture.n_vocab or 0) + 2 * architecture.n_embd + pooled)


def device_compute(graph: GraphBytes, role: Role) -> Amount:
    attention = graph.attention + graph.kv_f16
    feed_forward = graph.feed_forward
    if role.first:
        attention += role.copied_kv_bytes
        feed_forward += role.copied_bytes
    n_bytes = graph.masks + max(attention, feed_forward)
    if role.pipeline:  # further copies of masks and hidden state
        n_bytes += (_SCHED_COPIES - 1) * graph.masks
        n_bytes += _SCHED_COPIES * graph.embedding * (1 if role.first else 2)
    if role.last:
        n_bytes += 2 * graph.logits
    if role.first and role.copied_bytes and role.n_devices > 1:
        # Op offload copies one tensor while the graph runs; with several devices the next one already arrives
        # (measured: 2 copies).
        n_bytes = max(n_bytes, 2 * role.copied_bytes + graph.embedding + graph.router)
    if role.last:
        n_bytes = max(n_bytes, graph.masks + graph.all_logits)
    return _estimate(graph, n_bytes, extra=role.copied_kv_bytes // 4 if role.first else 0)


def host_compute(graph: GraphBytes, *, pipeline: bool, computes: bool, holds_weights: bool) -> Amount:
    """Estimate the host's compute buffer and the output rows."""
    # The host `computes` everything where no device is in use; otherwise it has the inputs (masks,
    # embeddings).
    if computes:
        block = max(graph.attention, graph.feed_forward)
        n_bytes = max(block + graph.masks + 3 * graph.logits, graph.masks + graph.all_logits)
        return _estimate(graph, n_bytes)
    copies = _SCHED_COPIES if pipeline else 1
    inputs = (
        copies * graph.masks + (_SCHED_COPIES + 1 if pipeline else 2) * graph.embedding + 3 * graph.logits
    )
    # A device computes with the host's weights of blocks, except where it has no kernel: up to the whole
    # graph.
    extra = max(graph.attention, graph.feed_forward) if holds_weights else 0
    if not graph.flash_attn:
        extra += copies * graph.masks
    return Amount(n_bytes=inputs, basis=Basis.ESTIMATED, band_bytes=_FLOOR_BAND + extra)


def _estimate(graph: GraphBytes, n_bytes: int, extra: int = 0) -> Amount:
    # The band is a share of what is computed, not of the tensors that are copied whole.
    share = max(graph.attention, graph.feed_forward) * graph.band_percent // 100
    return Amount(n_bytes=n_bytes, basis=Basis.ESTIMATED, band_bytes=max(share, _FLOOR_BAND) + extra)


def _feed_forward(architecture: Architecture) -> int:
    """Return the floats per token of the widest feed-forward."""
    n_embd = architecture.n_embd
    is_dense = not architecture.is_moe or architecture.n_dense_lead > 0
    # Gate, up and their product; input, residual, norm and output.
    dense = 3 * max(architecture.n_ff) + 4 * n_embd if is_dense else 0
    if not architecture.is_moe:
        return dense
    n_used = max(architecture.n_expert_used)
    n_ff_exp = max(architecture.n_ff_exp) or max(architecture.n_ff)
    experts = 2 * n_used * n_embd + max(6 * n_embd, 2 * n_used * n_ff_exp)
    return max(dense, experts)


def _has_flash_attention(architecture: Architecture, backend: Backend) -> bool:
    # CUDA and HIP have kernels for some head sizes, the CPU for all.
    if backend not in {Backend.CUDA, Backend.HIP}:
        return True
    k, v = architecture.n_embd_head_k, architecture.n_embd_head_v
    return v == k if k in CUDA_SQUARE_HEADS else k in CUDA_GROUPED_HEADS and v == CUDA_GROUPED_HEADS[k][0]


def _copies_kv(parameters: ContextParameters, backend: Backend, *, flash: bool) -> bool:
    # CUDA's flash attention needs F16, and converts any other cache first (ggml-cuda/fattn.cu,
    # ggml_cuda_flash_attn_ext_get_alloc_size).
    types = {parameters.cache_type_k, parameters.cache_type_v}
    return flash and backend in {Backend.CUDA, Backend.HIP} and types != {CacheType.F16}
