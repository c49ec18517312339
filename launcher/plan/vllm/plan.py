"""Decide how many ranks run a model on a machine's GPUs, and whether they hold what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from launcher.errors import UsageError
from launcher.plan.vllm.ledger import UTILISATION, Between, RankLedger, rank_ledger, tokens_in
from launcher.plan.vllm.shape import ModelShape
from launcher.units import GIB, format_bytes

_STEP = 1024  # tokens that a context which nobody stated is cut to
_LEAST_CTX = 8192  # a shorter one is not offered by itself
_MOST_REQUESTS = 1024  # vLLM's own on its largest GPUs; it samples for all of them at once as it starts


class VllmVerdict(StrEnum):
    FITS = "fits"
    UNCERTAIN = "uncertain"  # the band of the runtime lies across the budget: no yes
    DOES_NOT_FIT = "does not fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPool:
    """Equal GPUs on equal machines."""

    name: str
    total_bytes: int  # as CUDA reports it to vLLM
    per_machine: int
    machines: int = 1
    in_ram: bool = False  # the processor instead of GPUs, with RAM that is free


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmRequest:
    """What the user asks vLLM for; None is left to the plan."""

    ctx_size: int | None = None
    n_parallel: int = 1
    tp: int | None = None
    pp: int | None = None
    utilisation: Fraction = UTILISATION


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmPlan:
    """Ranks, their ledger, and the verdict."""

    shape: ModelShape
    pool: GpuPool
    tp: int
    pp: int
    utilisation: Fraction
    ledger: RankLedger
    ctx_size: int  # of one request
    n_parallel: int  # requests that are sure to have it at once

    @property
    def nodes(self) -> int:
        """The machines that the ranks take."""
        return -(-self.tp * self.pp // self.pool.per_machine)

    @property
    def ram_cache_gib(self) -> int | None:
        """The cache that a processor is told to make (VLLM_CPU_KVCACHE_SPACE): as much as is asked for."""
        if not self.pool.in_ram:
            return None
        return max(-(-self.ctx_size * self.n_parallel * self.ledger.token_bytes // GIB), 1)

    @property
    def tokens(self) -> Between:
        """The tokens that the cache holds."""
        if (gib := self.ram_cache_gib) is None:
            return self.ledger.tokens
        held = tokens_in(gib * GIB, self.ledger.token_bytes)
        return Between(low=held, high=held)

    @property
    def missing(self) -> Between:
        """The bytes that a GPU lacks: surely, and at most."""
        if (gib := self.ram_cache_gib) is not None:  # in whole GiB
            return self.ledger.lack_of(gib * GIB)
        return self.ledger.missing_for(self.ctx_size * self.n_parallel)

    @property
    def verdict(self) -> VllmVerdict:
        if self.missing.high == 0:
            return VllmVerdict.FITS
        return VllmVerdict.UNCERTAIN if self.missing.low == 0 else VllmVerdict.DOES_NOT_FIT

    @property
    def lack(self) -> str:
        """Say what is missing."""
        missing = self.missing
        each = "of RAM" if self.pool.in_ram else f"on each of {self.tp * self.pp} GPUs"
        for_what = f"for {self.ctx_size * self.n_parallel} tokens of cache"
        if self.verdict is VllmVerdict.UNCERTAIN:
            return (
                f"it may lack up to {format_bytes(missing.high)} {each} {for_what}: "
                "what vLLM itself takes is known to 4-8 GiB only"
            )
        return f"lacks {format_bytes(missing.low)} to {format_bytes(missing.high)} {each} {for_what}"


def plan_vllm(shape: ModelShape, pool: GpuPool, request: VllmRequest) -> VllmPlan:
    """Plan all GPUs of the pool as far as the model divides, or the ranks that were asked for.

    Raises UsageError for ranks that vLLM refuses, or that the pool has no GPUs for.
    """
    tp = request.tp or max(_tensor_ranks(shape, pool.per_machine))
    pp = request.pp or pool.machines
    _check_ranks(shape, pool, tp, pp)
    if request.n_parallel > _MOST_REQUESTS:
        raise UsageError(
            f"-np {request.n_parallel} is more than {_MOST_REQUESTS}, and what vLLM takes for more at once "
            "is not known",
            hint=f"-np {_MOST_REQUESTS}",
        )
    ledger = rank_ledger(shape, pool.total_bytes, tp, pp, request.utilisation)
    return VllmPlan(
        shape=shape,
        pool=pool,
        tp=tp,
        pp=pp,
        utilisation=request.utilisation,
        ledger=ledger,
        ctx_size=_context(shape, ledger, request),
        n_parallel=request.n_parallel,
    )


def larger_pool(plan: VllmPlan, request: VllmRequest) -> VllmPlan | None:
    """Return the plan on the fewest GPUs of the same kind that surely hold it; None up to 32 of them."""
    if plan.pool.in_ram:
        return None
    for per_machine, machines in ((2, 1), (4, 1), (8, 1), (8, 2), (8, 4)):
        pool = GpuPool(
            name=plan.pool.name,
            total_bytes=plan.pool.total_bytes,
            per_machine=per_machine,
            machines=machines,
        )
        tp = max(_tensor_ranks(plan.shape, per_machine))
        if tp * machines <= plan.tp * plan.pp:
            continue
        free = VllmRequest(
            ctx_size=plan.ctx_size, n_parallel=request.n_parallel, utilisation=request.utilisation
        )
        larger = plan_vllm(plan.shape, pool, free)
        if larger.verdict is VllmVerdict.FITS:
            return larger
    return None


def _tensor_ranks(shape: ModelShape, most: int) -> Iterator[int]:
    return (tp for tp in range(1, most + 1) if why_not_divided(shape, tp) is None)


def why_not_divided(shape: ModelShape, tp: int) -> str | None:
    """Say why vLLM does not divide the model among so many ranks, if so."""
    if shape.n_heads % tp:
        return f"its {shape.n_heads} attention heads do not divide among {tp} GPUs"
    n_kv = shape.n_kv_heads
    if n_kv is not None and n_kv % tp and tp % n_kv:
        return f"its {n_kv} K/V heads do not divide among {tp} GPUs"
    wrong = next((each for each in shape.widths if not each.divides(tp)), None)
    if wrong is not None:
        # vllm/distributed/utils.py, divide; quantization/utils/fp8_utils.py, validate_fp8_block_shape
        blocks = "" if wrong.step == 1 else f" in blocks of {wrong.step}"
        return f"a width of {wrong.width} does not divide among {tp} GPUs{blocks}"
    return None


def _check_ranks(shape: ModelShape, pool: GpuPool, tp: int, pp: int) -> None:
    if (why := why_not_divided(shape, tp)) is not None:
        raise UsageError(f"-tp {tp} cannot be: {why}", hint=f"-tp {max(_tensor_ranks(shape, tp))}")
    if pp > len(shape.layers):
        raise UsageError(f"-pp {pp} is more stages than the model's {len(shape.layers)} layers", hint="-pp 1")
    has = pool.per_machine * pool.machines
    if tp * pp > has or tp > pool.per_machine:
        raise UsageError(
            f"-tp {tp} -pp {pp} takes {tp * pp} GPUs, and there are {has}, {pool.per_machine} a machine",
            hint="leave -tp and -pp out",
        )
    nodes = -(-tp * pp // pool.per_machine)
    if tp * pp % nodes:
        raise UsageError(
            f"-tp {tp} -pp {pp} is {tp * pp} ranks, which {nodes} machines cannot have alike",
            hint="leave -tp and -pp out",
        )


def _context(shape: ModelShape, ledger: RankLedger, request: VllmRequest) -> int:
    """Return what was asked for, else the longest that all requests surely have."""
    if request.ctx_size is not None:
        if request.ctx_size > shape.max_ctx:
            raise UsageError(
                f"-c {request.ctx_size} is more than the model's {shape.max_ctx} tokens",
                hint=f"-c {shape.max_ctx}",
            )
        return request.ctx_size
    sure = ledger.tokens.low // request.n_parallel
    if sure >= shape.max_ctx:
        return shape.max_ctx
    return max(sure // _STEP * _STEP, min(_LEAST_CTX, shape.max_ctx))
