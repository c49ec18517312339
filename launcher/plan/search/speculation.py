"""Say whether a model's MTP blocks pay: the memory they take against the speed they bring. Pure."""

from __future__ import annotations

from dataclasses import replace

from launcher.errors import LauncherError
from launcher.plan.companions import MTP, Companions, MtpRequest
from launcher.plan.forecast.drafts import USUAL_ACCEPTANCE, Drafting, drafted_rate
from launcher.plan.memory.weights import weigh
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange
from launcher.plan.placement.pace import forecast_placement, mtp_stages, stages_of
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.choice import Speculation
from launcher.units import format_bytes

_LENGTHS = (1, 2, 3)  # tokens drafted at once; llama-server's default is the last
_LEAST_GAIN = 1.1  # less is within what a forecast cannot tell


def evaluate_mtp(chosen: PlanCandidate) -> Speculation | None:
    """Compare the plan with and without drafts by MTP; None for a model that has no MTP blocks.

    Also None where something else drafts, and where nothing is generated.
    """
    if chosen.arrangement.settled.parameters.all_outputs:
        return None
    companions = chosen.case.companions
    used = companions.mtp is not None
    if not chosen.case.architecture.n_nextn or (companions.spec_types and not used):
        return None
    lengths = (companions.head_length,) if used else _LENGTHS
    try:
        plain = _arranged(chosen, _case_with(chosen.case, _without_drafts(companions)))
        case = _case_with(chosen.case, _with_mtp(companions, lengths[0]))
        cases = [(n_draft, _case_with(case, _with_mtp(companions, n_draft))) for n_draft in lengths]
        drafting = [(n_draft, _arranged(chosen, each)) for n_draft, each in cases]
    except LauncherError:
        return None  # no placement of this model can be compared
    ways = [(_rate(chosen, case, each, n_draft), n_draft, each) for n_draft, (case, each) in drafting]
    fitting = [way for way in ways if way[2].fits]
    tps, n_draft, best = max(fitting or ways, key=lambda way: way[0])
    found = _compared(chosen, plain, best, n_draft, tps)
    return replace(found, text=_describe(found, best))


def _compared(
    chosen: PlanCandidate,
    plain: tuple[PlanningCase, Arrangement],
    drafting: Arrangement,
    n_draft: int,
    tps: float,
) -> Speculation:
    case, without = plain
    plain_tps = forecast_placement(
        without.demand, without.placement, case.machine, without.cores.processor, chosen.forecast.turn
    ).decode.mid
    memory = _held(drafting) - _held(without)
    cache = sum(block.attention_bytes for block in without.demand.caches.blocks)
    per_token = cache / without.settled.parameters.ctx_size
    used = chosen.case.companions.mtp is not None
    return Speculation(
        flags="--spec-type draft-mtp" + ("" if n_draft == _LENGTHS[-1] else f" --spec-draft-n-max {n_draft}"),
        used=used,
        fits=drafting.fits,
        pays=drafting.fits and tps >= plain_tps * _LEAST_GAIN,
        n_draft=n_draft,
        acceptance=USUAL_ACCEPTANCE,
        memory_bytes=memory,
        ctx_tokens=round(memory / per_token) if per_token else 0,
        decode_tps=tps if drafting.fits else None,
        plain_tps=plain_tps,
        text="",
    )


def _describe(found: Speculation, drafting: Arrangement) -> str:
    takes = f"{format_bytes(found.memory_bytes)}, as much as {found.ctx_tokens} tokens of context"
    if not found.fits:
        lack = -min(row.free_bytes for row in drafting.ledger)
        return f"drafts by the model's MTP blocks take {takes}, {format_bytes(lack)} more than there is"
    tokens = "1 token" if found.n_draft == 1 else f"{found.n_draft} tokens"
    drafted = f"{tokens} at once, {found.acceptance:.0%} of them right"
    speed = f"{found.decode_tps:.1f} tokens/s instead of {found.plain_tps:.1f}"
    if found.used:
        verdict = "they pay" if found.pays else "they do not pay: leave --spec-type out"
    else:
        verdict = f"they pay: add -- {found.flags}" if found.pays else "they do not pay"
    return f"drafts by the model's MTP blocks ({drafted}) take {takes}, and predict {speed}: {verdict}"


def _held(arrangement: Arrangement) -> int:
    """Sum the middle of what the model and its companions take in all places."""
    amounts = (amount for row in arrangement.ledger for amount in (row.weights, row.kv, row.compute))
    return sum(amount.n_bytes for amount in amounts)


def _without_drafts(companions: Companions) -> Companions:
    return replace(companions, mtp=None, spec_types=(), n_draft=0, head_length=0)


def _with_mtp(companions: Companions, n_draft: int) -> Companions:
    if companions.mtp is not None:
        return companions
    mtp = MtpRequest()
    return replace(companions, mtp=mtp, spec_types=(MTP,), n_draft=n_draft, head_length=n_draft)


def _case_with(case: PlanningCase, companions: Companions) -> PlanningCase:
    """Return the case with these companions, weighed anew if MTP blocks come or go with them."""
    load_mtp, weights = MTP in companions.spec_types, case.weights
    if load_mtp != (MTP in case.companions.spec_types):
        weights = weigh(
            case.architecture,
            case.model.tensors,
            {budget.device.backend for budget in case.budgets.devices},
            weights.overrides,
            weights.in_file,
            load_mtp=load_mtp,
        )
    return replace(case, companions=companions, weights=weights)


def _arranged(chosen: PlanCandidate, case: PlanningCase) -> tuple[PlanningCase, Arrangement]:
    """Arrange the chosen context again, in this case."""
    return case, arrange(case, chosen.arrangement.settled, chosen.workload)


def _rate(chosen: PlanCandidate, case: PlanningCase, arrangement: Arrangement, n_draft: int) -> float:
    demand, placement, host = arrangement.demand, arrangement.placement, arrangement.cores.processor
    stages = stages_of(demand, placement, case.machine, host)
    drafter = mtp_stages(demand, placement, case.machine, host)
    return drafted_rate(stages, drafter, chosen.forecast.turn.depth_of_reply, Drafting(n_tokens=n_draft))
