"""Settle a request as parameters that llama.cpp accepts: context, slots, cache types, batches. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import BLOCKS, GgmlType
from launcher.gguf.model import ModelFile
from launcher.plan.modes import CacheType, FlashAttention, is_quantised
from launcher.plan.parameters import ContextParameters, pad_context
from launcher.plan.rope import yarn_flags
from launcher.plan.workload import Workload
from launcher.units import format_bytes

# Enough for a long document and its answer; most published setups run with it.
_DEFAULT_CTX = 32768
_LEAST_CTX = 4096
# llama-server's defaults (common/common.h, n_batch and n_ubatch).
_USUAL_BATCH = 2048
USUAL_UBATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledParameters:
    parameters: ContextParameters
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextChoice:
    """Contexts to try, in order; more than one only if none was requested."""

    sizes: tuple[int, ...]
    reason: str  # for the first

    def reason_for(self, size: int) -> str:
        if size == self.sizes[0]:
            return self.reason
        return f"nobody asked for one, and {self.sizes[0]} does not fit"


def choose_contexts(
    architecture: Architecture, workload: Workload, default_ctx: int | None, preferred_ctx: int | None = None
) -> ContextChoice:
    """Choose the contexts to try: the one that request, config or profile names, else the planner's."""
    trained = architecture.n_ctx_train
    if workload.ctx_size is not None:
        return ContextChoice(sizes=(pad_context(workload.ctx_size),), reason="as asked")
    if preferred_ctx is not None:
        most = min(preferred_ctx, trained or preferred_ctx)
        return ContextChoice(sizes=(pad_context(most),), reason="the config file's default")
    if default_ctx is not None:
        return ContextChoice(sizes=(pad_context(default_ctx),), reason="the profile's default")
    first = pad_context(min(trained, _DEFAULT_CTX)) if trained else _DEFAULT_CTX
    sizes = [first]
    while sizes[-1] // 2 >= _LEAST_CTX:
        sizes.append(pad_context(sizes[-1] // 2))
    return ContextChoice(
        sizes=tuple(sizes),
        reason=f"the smaller of the {trained} the model was trained for and {_DEFAULT_CTX}",
    )


def check_context_limit(model: ModelFile, limit: int, contexts: ContextChoice, workload: Workload) -> None:
    """Raise UsageError for a pool larger than its requests can use, each capped at `limit` tokens."""
    most = pad_context(limit) * workload.n_parallel
    wanted = contexts.sizes[0]
    if not limit or workload.n_parallel < 1 or wanted <= most:
        return
    each = -(-wanted // workload.n_parallel)
    at_once = f" for {workload.n_parallel} requests" if workload.n_parallel > 1 else ""
    flags = yarn_flags(model.metadata, each)
    longer = f", or add -- {flags} (stretched: it answers, how well is not known)" if flags else ""
    raise UsageError(
        f"a context of {wanted} tokens{at_once}: {model.model_id} was trained for {limit}, "
        "and llama-server caps every request there",
        hint=f"-c {limit * workload.n_parallel}{longer}",
    )


def settle(architecture: Architecture, workload: Workload, ctx_size: int) -> SettledParameters:
    """Settle the parameters for this context. Raises UsageError for those that llama.cpp would refuse."""
    if workload.n_parallel < 1:
        raise UsageError(f"{workload.n_parallel} slots cannot serve a request", hint="-np 1")
    type_k, type_v, reason = _cache_types(architecture, workload)
    flash_attn = workload.flash_attn
    if is_quantised(type_v):
        if flash_attn is FlashAttention.OFF:
            raise UsageError(
                f"a V cache of {type_v} needs flash attention, and it is switched off",
                hint="-ctv f16",
            )
        flash_attn = FlashAttention.ON
    ubatch = workload.ubatch_size or USUAL_UBATCH
    batch = workload.batch_size or max(_USUAL_BATCH, ubatch)
    if workload.embedding:  # llama-server shortens the batch itself, and says so
        batch = min(batch, ubatch)
    parameters = ContextParameters(
        ctx_size=ctx_size,
        n_parallel=workload.n_parallel,
        cache_type_k=type_k,
        cache_type_v=type_v,
        batch_size=batch,
        ubatch_size=min(ubatch, batch),
        flash_attn=flash_attn,
        embedding=workload.embedding,
        pooling=workload.pooling,
        op_offload=workload.op_offload,
        dialect=workload.dialect,
    )
    return SettledParameters(parameters=parameters, reasons=reason)


def _cache_types(
    architecture: Architecture, workload: Workload
) -> tuple[CacheType, CacheType, tuple[str, ...]]:
    wanted_k, wanted_v = workload.cache_type_k, workload.cache_type_v
    reasons: tuple[str, ...] = ()
    if architecture.is_mla:
        if wanted_k is not None and wanted_v is not None and wanted_k is not wanted_v:
            raise UsageError(
                f"cache types {wanted_k} for K and {wanted_v} for V: this model (MLA) keeps one latent for "
                "both, and llama.cpp wants them equal",
                hint=f"-ctk {wanted_k} -ctv {wanted_k}",
            )
        wanted_k = wanted_v = wanted_k or wanted_v
        reasons = ("K and V cache types are equal: the model keeps one latent for both (MLA)",)
    type_k, type_v = wanted_k or CacheType.F16, wanted_v or CacheType.F16
    for flag, cache_type, n_head in (
        ("-ctk", type_k, architecture.n_embd_head_k),
        ("-ctv", type_v, 0 if architecture.is_mla else architecture.n_embd_head_v),
    ):
        per_block = BLOCKS[GgmlType[cache_type.name]][0]
        if n_head % per_block:
            raise UsageError(
                f"a cache of {cache_type} needs heads of a multiple of {per_block}, "
                f"and this model's have {n_head}",
                hint=f"{flag} f16",
            )
    return type_k, type_v, reasons


def describe_pool(parameters: ContextParameters, kv_bytes: int, reason: str, limit: int) -> str:
    longest = min(parameters.ctx_size, limit or parameters.ctx_size)
    alone = (
        "all of it" if longest == parameters.ctx_size else f"{longest} tokens, what the model was trained for"
    )
    share = (
        f"one request of {longest} tokens guaranteed"
        if parameters.n_parallel == 1
        else (
            f"one request can use {alone}, {parameters.n_parallel} at once share it: "
            f"{parameters.n_parallel} requests of {parameters.ctx_size // parameters.n_parallel} tokens "
            "guaranteed"
        )
    )
    return f"context {parameters.ctx_size}, {reason}: {share}; its cache takes {format_bytes(kv_bytes)}"
