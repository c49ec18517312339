"""Say why a candidate was not taken, as an `Alternative` or a `Shortfall`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.plan.amounts import SPEED
from launcher.plan.plan import Shortfall
from launcher.plan.reasons import describe_missing
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.choice import Alternative
from launcher.plan.search.preference import limit_seconds, pareto_front
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.shortfall import shortfall_of
from launcher.plan.search.task import Task
from launcher.plan.search.verify import Verdict
from launcher.plan.workload import Prefer, Workload


def shortfall_by_simulation(candidate: PlanCandidate, verdict: Verdict) -> Shortfall:
    """Return what a candidate that fits by our figures lacks by simulation."""
    ledger = verdict.simulated.ledger
    worst = min(ledger, key=lambda row: row.free_bytes)
    return shortfall_of(
        candidate.case,
        replace(candidate.arrangement, ledger=ledger),
        where=worst.where,
        missing_bytes=-worst.free_bytes,
        reasons=(describe_missing(candidate.case.quant, worst), *verdict.simulated.remarks),
    )


def as_refuted_alternative(candidate: PlanCandidate, verdict: Verdict) -> Alternative:
    short = shortfall_by_simulation(candidate, verdict)
    return replace(
        as_alternative(candidate, f"{short.reasons[0]}, simulated"),
        fits=False,
        where=short.where,
        missing_bytes=short.missing_bytes,
    )


def explain_rejection(candidate: PlanCandidate, chosen: PlanCandidate, limit_seconds: float) -> str:
    """Say why a candidate that fits was not chosen; `limit_seconds` is what a turn may take."""
    if candidate.rank > chosen.rank:
        shorter, longer = f"{candidate.turn_seconds:.1f}", f"{chosen.turn_seconds:.1f}"
        gain = candidate.turn_seconds < chosen.turn_seconds and shorter != longer
        return f"fits, of lower quality than {chosen.case.quant}" + (
            f", for a turn of {shorter} s instead of {longer} s" if gain else ""
        )
    turn, limit = _told_apart(candidate.turn_seconds, limit_seconds)
    kind = candidate.arrangement.settled.parameters.cache_type_k
    which = "the limit" if candidate.workload.prefer is Prefer.BALANCED else "the shortest"
    return f"fits, and a turn takes {turn} s (KV {kind}), {which} is {limit} s"


def _told_apart(more: float, less: float) -> tuple[str, str]:
    """Format two numbers with enough digits to tell them apart."""
    for digits in range(1, 6):
        texts = f"{more:.{digits}f}", f"{less:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts


def is_too_slow(candidate: PlanCandidate, workload: Workload) -> bool:
    return workload.min_tps is not None and candidate.decode_tps < workload.min_tps


def describe_slowness(candidate: PlanCandidate, workload: Workload) -> str:
    return f"fits, at {candidate.decode_tps:.1f} tokens/s where --min-tps asks for {workload.min_tps:g}"


def shortfall_of_speed(candidate: PlanCandidate, workload: Workload) -> Shortfall:
    """Return the fastest candidate as a shortfall of speed, if --min-tps asks for more."""
    return shortfall_of(
        candidate.case,
        candidate.arrangement,
        where=SPEED,
        missing_bytes=0,
        reasons=(
            (
                f"{candidate.case.quant} is the fastest that fits, predicted "
                f"{candidate.forecast.decode.low:.1f}-"
                f"{candidate.forecast.decode.high:.1f} tokens/s; --min-tps asks for {workload.min_tps:g}"
            ),
        ),
        hints=(f"--min-tps {candidate.decode_tps:.1f}",),
    )


def as_alternative(candidate: PlanCandidate, reason: str) -> Alternative:
    parameters = candidate.arrangement.settled.parameters
    kind = parameters.cache_type_k
    return Alternative(
        quant=candidate.case.quant,
        size_bytes=candidate.case.model.size_bytes,
        cache_type=kind.value,
        ubatch_size=parameters.ubatch_size,
        ctx_size=parameters.ctx_size,
        fits=True,
        reason=reason,
        flags=(
            f"--quant {candidate.case.quant} -ctk {kind} -ctv {parameters.cache_type_v} "
            f"-ub {parameters.ubatch_size}"
        ),
        decode_tps=candidate.decode_tps,
        turn_seconds=candidate.turn_seconds,
    )


def reject_slow(quant: QuantSearch, slow: Sequence[PlanCandidate], rank: int, task: Task) -> Alternative:
    """Return the fastest candidate of a quant, which is too slow, or what the quant lacks."""
    own = [candidate for candidate in slow if candidate.rank[0] == rank]
    if not own:
        return reject_short(quant, quant.shortfall(task))
    best = max(own, key=lambda candidate: candidate.decode_tps)
    return as_alternative(best, describe_slowness(best, task.workload))


def reject_others(
    searched: Sequence[QuantSearch], chosen: PlanCandidate, preferred: Sequence[PlanCandidate], task: Task
) -> tuple[Alternative, ...]:
    rejected = []
    unbeaten, limit = pareto_front(preferred), limit_seconds(preferred, task.workload.prefer)
    for rank, quant in enumerate(searched):
        if rank == chosen.rank[0]:
            continue
        if not quant.tried.candidates or not quant.fetchable(task):
            rejected.append(reject_short(quant, quant.shortfall(task)))
            continue
        best = next((candidate for candidate in (*unbeaten, *preferred) if candidate.rank[0] == rank), None)
        if best is None:
            fastest = max(quant.tried.candidates, key=lambda candidate: candidate.decode_tps)
            rejected.append(as_alternative(fastest, describe_slowness(fastest, task.workload)))
            continue
        rejected.append(as_alternative(best, explain_rejection(best, chosen, limit)))
    return tuple(rejected)


def reject_short(quant: QuantSearch, shortfall: Shortfall) -> Alternative:
    parameters = (quant.tried.nearest or quant.tried.candidates[0].arrangement).settled.parameters
    return Alternative(
        quant=shortfall.quant,
        size_bytes=shortfall.size_bytes,
        cache_type=parameters.cache_type_k.value,
        ubatch_size=parameters.ubatch_size,
        ctx_size=shortfall.ctx_size,
        fits=False,
        reason=shortfall.reasons[0],
        flags=f"--quant {shortfall.quant}",
        where=shortfall.where,
        missing_bytes=shortfall.missing_bytes,
    )
