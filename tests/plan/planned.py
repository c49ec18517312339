"""A plan for one quant with nothing left to vary: the usual micro-batch and F16 caches where none were asked for."""

from __future__ import annotations

from dataclasses import replace

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.modes import CacheType
from launcher.plan.placement.settle import USUAL_UBATCH
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import Offer, Task, plan_one
from launcher.plan.workload import Limits, Workload


def make_plan(
    model: ModelFile,
    quant: str,
    machine: Machine,
    workload: Workload,
    *,
    default_ctx: int | None = None,
    limits: Limits | None = None,
) -> Plan | Shortfall:
    fixed = replace(
        workload, ubatch_size=workload.ubatch_size or min(USUAL_UBATCH, workload.batch_size or USUAL_UBATCH)
    )
    if workload.cache_type_k is None and workload.cache_type_v is None:
        fixed = replace(fixed, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    task = Task(machine=machine, workload=fixed, limits=limits or Limits(), default_ctx=default_ctx)
    return plan_one(Offer(quant=quant, model=model), task)
