"""Why a candidate was not taken, as an `Alternative` or a `Shortfall` with its sentence."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.amounts import SPEED
from launcher.plan.plan import Shortfall
from launcher.plan.reasons import describe_missing
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.choice import Alternative
from launcher.plan.search.shortfall import shortfall_of
from launcher.plan.search.verify import Verdict
from launcher.plan.workload import Prefer, Workload


def refuted_shortfall(one: PlanCandidate, verdict: Verdict) -> Shortfall:
    """What the simulator misses in a candidate that fits by our figures."""
    ledger = verdict.simulated.ledger
    worst = min(ledger, key=lambda row: row.free_bytes)
    return shortfall_of(
        one.case,
        replace(one.arrangement, ledger=ledger),
        where=worst.where,
        missing_bytes=-worst.free_bytes,
        reasons=(describe_missing(one.case.quant, worst), *verdict.simulated.remarks),
    )


def refuted_alternative(one: PlanCandidate, verdict: Verdict) -> Alternative:
    short = refuted_shortfall(one, verdict)
    return replace(
        alternative(one, f"{short.reasons[0]}, simulated"),
        fits=False,
        where=short.where,
        missing_bytes=short.missing_bytes,
    )


def why_not(one: PlanCandidate, chosen: PlanCandidate, limit_seconds: float) -> str:
    """`limit_seconds` is what a turn of a better quant may take."""
    if one.rank > chosen.rank:
        shorter, longer = f"{one.turn_seconds:.1f}", f"{chosen.turn_seconds:.1f}"
        gain = one.turn_seconds < chosen.turn_seconds and shorter != longer
        return f"fits, of lower quality than {chosen.case.quant}" + (
            f", for a turn of {shorter} s instead of {longer} s" if gain else ""
        )
    turn, limit = _apart(one.turn_seconds, limit_seconds)
    kind = one.arrangement.settled.parameters.cache_type_k
    which = "the limit" if one.workload.prefer is Prefer.BALANCED else "the shortest"
    return f"fits, and a turn takes {turn} s (KV {kind}), {which} is {limit} s"


def _apart(more: float, less: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to see which is larger."""
    for digits in range(1, 6):
        texts = f"{more:.{digits}f}", f"{less:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts


def too_slow(one: PlanCandidate, workload: Workload) -> bool:
    return workload.min_tps is not None and one.decode_tps < workload.min_tps


def slow_reason(one: PlanCandidate, workload: Workload) -> str:
    return f"fits, at {one.decode_tps:.1f} tokens/s where --min-tps asks for {workload.min_tps:g}"


def slow_shortfall(one: PlanCandidate, workload: Workload) -> Shortfall:
    """The fastest that fits, where --min-tps asks for more."""
    return shortfall_of(
        one.case,
        one.arrangement,
        where=SPEED,
        missing_bytes=0,
        reasons=(
            (
                f"{one.case.quant} is the fastest that fits, predicted {one.forecast.decode.low:.1f}-"
                f"{one.forecast.decode.high:.1f} tokens/s; --min-tps asks for {workload.min_tps:g}"
            ),
        ),
        hints=(f"--min-tps {one.decode_tps:.1f}",),
    )


def alternative(one: PlanCandidate, reason: str) -> Alternative:
    parameters = one.arrangement.settled.parameters
    kind = parameters.cache_type_k
    return Alternative(
        quant=one.case.quant,
        size_bytes=one.case.model.size_bytes,
        cache_type=kind.value,
        ubatch_size=parameters.ubatch_size,
        ctx_size=parameters.ctx_size,
        fits=True,
        reason=reason,
        flags=f"--quant {one.case.quant} -ctk {kind} -ctv {parameters.cache_type_v} -ub {parameters.ubatch_size}",
        decode_tps=one.decode_tps,
        turn_seconds=one.turn_seconds,
    )
