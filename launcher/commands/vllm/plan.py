"""Plan a model for vLLM on one machine or several equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.commands.here import Here
from launcher.commands.vllm.gpus import most_utilisation, pool_of, utilisation_of
from launcher.commands.vllm.model import VllmModel, find_model, model_of
from launcher.errors import DoesNotFit, LauncherError, UsageError
from launcher.machine.machine import Machine
from launcher.models.profiles.profile import ModelProfile
from launcher.plan.vllm.argv import VllmServing, vllm_argv
from launcher.plan.vllm.flags import read_flags
from launcher.plan.vllm.plan import VllmPlan, VllmRequest, VllmVerdict, larger_pool, plan_vllm
from launcher.plan.workload import Limits, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmPlanned:
    """The outcome of planning for vLLM."""

    model: VllmModel
    plan: VllmPlan
    flags: tuple[str, ...]  # passed on
    larger: VllmPlan | None  # what would do, where this does not

    @property
    def fits(self) -> bool:
        return self.plan.verdict is VllmVerdict.FITS

    @property
    def would_do(self) -> str | None:
        """The GPUs that would do, where these do not."""
        return None if self.larger is None else describe_ranks(self.larger)

    def check_fits(self) -> None:
        """Raise DoesNotFit unless it surely fits."""
        if not self.fits:
            hint = None if self.would_do is None else f"{self.would_do} would do"
            raise DoesNotFit(f"{self.model.model_id} on vLLM: {self.plan.lack}", hint=hint)

    def command_lines(self, serving: VllmServing | None = None) -> tuple[tuple[str, ...], ...]:
        """Return a command line for each machine, the head's first."""
        place = replace(serving or VllmServing(model_id=self.model.model_id), flags=self.flags)
        return tuple(vllm_argv(self.plan, place, rank) for rank in range(self.plan.nodes))


def plan_for_vllm(
    here: Here,
    ref: str,
    workload: Workload,
    limits: Limits,
    flags: Sequence[str],
    machines: Sequence[Machine],
) -> VllmPlanned:
    """Plan a model for vLLM. Raises UsageError for what vLLM has no word for, NotFound, DoesNotFit."""
    _refuse_others(workload, limits)
    return _planned(find_model(here, ref), workload, flags, machines)


def plan_beside(profile: ModelProfile | None, workload: Workload, machine: Machine) -> VllmPlanned | None:
    """Return what vLLM would do with the model of a profile; None where there is nothing to say."""
    if profile is None or profile.vllm is None:
        return None
    try:
        return _planned(model_of(profile, profile.vllm), workload, (), (machine,))
    except LauncherError:  # it was not asked for: no GPU of its kind, a profile that it cannot use
        return None


def _planned(
    model: VllmModel, workload: Workload, flags: Sequence[str], machines: Sequence[Machine]
) -> VllmPlanned:
    request = VllmRequest(
        ctx_size=workload.ctx_size, n_parallel=workload.n_parallel, utilisation=utilisation_of(machines)
    )
    request, passed = read_flags(flags, request)
    if request.utilisation > (most := most_utilisation(machines)):
        raise UsageError(
            f"--gpu-memory-utilization {float(request.utilisation):.2f} is more than is free: "
            f"vLLM starts with {float(most):.2f} at most",
            hint="leave --gpu-memory-utilization out",
        )
    plan = plan_vllm(model.shape, pool_of(machines, quantised=model.shape.is_quantised), request)
    return VllmPlanned(
        model=model,
        plan=plan,
        flags=(*model.flags, *passed),
        larger=None if plan.verdict is VllmVerdict.FITS else larger_pool(plan, request),
    )


def _refuse_others(workload: Workload, limits: Limits) -> None:
    kept = Workload(ctx_size=workload.ctx_size, n_parallel=workload.n_parallel)
    if workload != kept or limits != Limits():
        raise UsageError(
            "with --engine vllm a plan is made of -c and -np, and another option of llama.cpp's is given",
            hint="leave it out; vLLM's own flags go after --, as in -- -tp 4",
        )


def vllm_document(planned: VllmPlanned) -> dict[str, Any]:
    """Return the plan as JSON."""
    plan, ledger = planned.plan, planned.plan.ledger
    missing = plan.missing
    return {
        "schema": 1,
        "engine": "vllm",
        "model": plan.shape.source,
        "fits": None if plan.verdict is VllmVerdict.UNCERTAIN else planned.fits,
        "verdict": plan.verdict.value,
        "gpus": plan.tp * plan.pp,
        "gpu": plan.pool.name,
        "tensor_parallel": plan.tp,
        "pipeline_parallel": plan.pp,
        "nodes": plan.nodes,
        "ctx_size": plan.ctx_size,
        "n_parallel": plan.n_parallel,
        "cache_tokens": [plan.tokens.low, plan.tokens.high],
        "rank": {
            "weight_bytes": ledger.weights,
            "runtime_bytes": [ledger.runtime.low, ledger.runtime.high],
            "budget_bytes": ledger.budget,
            "cache_bytes": [ledger.room.low, ledger.room.high],
            "cache_token_bytes": ledger.token_bytes,
            "missing_bytes": [missing.low, missing.high],
        },
        "would_do": planned.would_do,
        "argv": [list(argv) for argv in planned.command_lines()] if planned.fits else [],
    }


def describe_ranks(plan: VllmPlan) -> str:
    """Name the GPUs of a plan: `8 x NVIDIA H200 (-tp 8)`."""
    if plan.pool.in_ram:
        return plan.pool.name
    pipeline = "" if plan.pp == 1 else f" -pp {plan.pp}"
    machines = "" if plan.nodes == 1 else f" on {plan.nodes} machines"
    return f"{plan.tp * plan.pp} x {plan.pool.name}{machines} (-tp {plan.tp}{pipeline})"
