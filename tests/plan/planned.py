"""A plan made by hand, and a plan for one quant with nothing left to vary: the usual micro-batch and F16 caches where none were asked for."""

from __future__ import annotations

from dataclasses import replace

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.modes import CacheType, FlashAttention, LoadMode
from launcher.plan.placement.settle import USUAL_UBATCH
from launcher.plan.plan import Placement, Plan, Shortfall
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Limits, Workload


def ledger_row(where: str, *, weights: int = 0, kv: int = 0, compute: int = 0) -> LedgerRow:
    """A row with exact bytes and nothing left over."""
    return LedgerRow(
        where=where,
        name=where,
        weights=Amount(n_bytes=weights, basis=Basis.EXACT),
        kv=Amount(n_bytes=kv, basis=Basis.EXACT),
        compute=Amount(n_bytes=compute, basis=Basis.EXACT),
        cache=NOTHING,
        overhead=NOTHING,
        budget_bytes=weights + kv + compute,
    )


def small_plan(
    *devices: str, ledger: tuple[LedgerRow, ...] | None = None, reasons: tuple[str, ...] = ()
) -> Plan:
    """A plan of a model of 2 layers a device, made by hand."""
    return Plan(
        model_id="m",
        source="/models/m.gguf",
        quant="Q4_1",
        size_bytes=10,
        ctx_size=512,
        n_parallel=1,
        cache_type_k=CacheType.F16,
        cache_type_v=CacheType.F16,
        batch_size=2048,
        ubatch_size=512,
        flash_attn=FlashAttention.AUTO,
        load_mode=LoadMode.MMAP,
        cache_ram_bytes=0,
        ctx_checkpoints=0,
        threads=2,
        placement=Placement(
            n_block=2 * len(devices) or 2,
            n_gpu_layers=2 * len(devices),
            devices=devices,
            tensor_split=(2,) * len(devices),
            host_expert_blocks=(),
        ),
        ledger=tuple(map(ledger_row, (*devices, HOST))) if ledger is None else ledger,
        reasons=reasons,
    )


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
