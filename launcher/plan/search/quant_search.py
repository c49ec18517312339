"""The search within one quant: its candidates, or what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.plan.amounts import DISK
from launcher.plan.placement.arrange import PlanningCase, read_case
from launcher.plan.placement.settle import ContextChoice, check_context_limit, choose_contexts
from launcher.plan.plan import Shortfall
from launcher.plan.search.candidates import QuantCandidates, fitting_candidates
from launcher.plan.search.shortfall import explain_shortfall, shortfall_of
from launcher.plan.search.task import Offer, Task
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSearch:
    offer: Offer
    case: PlanningCase
    contexts: ContextChoice
    tried: QuantCandidates

    @classmethod
    def of(cls, offer: Offer, rank: int, task: Task) -> QuantSearch:
        case = read_case(
            offer.model,
            offer.quant,
            task.machine,
            task.workload,
            task.limits,
            task.companions,
        )
        contexts = choose_contexts(case.architecture, task.workload, task.default_ctx, task.preferred_ctx)
        check_context_limit(case.model, case.architecture.n_ctx_train, contexts, task.workload)
        return cls(
            offer=offer,
            case=case,
            contexts=contexts,
            tried=fitting_candidates(case, task.workload, contexts, rank),
        )

    def fetchable(self, task: Task) -> bool:
        """Tell if the disk has space for the download."""
        store = task.machine.store
        return store is None or self.offer.fetch_bytes <= store.free_bytes

    def shortfall(self, task: Task) -> Shortfall:
        """Return what is missing if nothing of the quant fits, or it cannot be fetched."""
        nearest = self.tried.nearest
        if nearest is not None:
            shortfall = explain_shortfall(self.case, self.tried.nearest_workload, nearest)
            if self.fetchable(task):
                return shortfall
            return replace(shortfall, reasons=(*shortfall.reasons, self._describe_disk(task)))
        best = self.tried.candidates[0].arrangement
        free = task.machine.store.free_bytes if task.machine.store else 0
        return shortfall_of(
            self.case,
            best,
            where=DISK,
            missing_bytes=self.offer.fetch_bytes - free,
            reasons=(f"{self.offer.quant} fits in memory, and not on disk: {self._describe_disk(task)}",),
        )

    def _describe_disk(self, task: Task) -> str:
        free = task.machine.store.free_bytes if task.machine.store else 0
        return f"{format_bytes(self.offer.fetch_bytes)} to download, {format_bytes(free)} free on disk"
