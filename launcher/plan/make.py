"""The planner: a model, a machine and a wish in; a plan that fits, or what is missing, out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import LauncherError
from launcher.gguf.architecture import read_architecture
from launcher.machine import Machine
from launcher.model import ModelFile
from launcher.plan.arrange import Arrangement, Case, arrange
from launcher.plan.budget import read_budgets
from launcher.plan.host_memory import LoadFacts, choose_load_mode
from launcher.plan.pattern import EXPERTS, expert_pattern, matched_names
from launcher.plan.plan import Placement, Plan, Shortfall, Workload
from launcher.plan.reasons import describe_budgets, describe_placement
from launcher.plan.settle import choose_contexts, describe_pool, settle
from launcher.plan.shortfall import explain_shortfall
from launcher.plan.threads import choose_threads
from launcher.plan.weights import weigh


def make_plan(
    model: ModelFile,
    quant: str,
    machine: Machine,
    workload: Workload,
    *,
    default_ctx: int | None = None,
) -> Plan | Shortfall:
    """The plan for this quant on this machine. `default_ctx` is the profile's, for when none was asked for.

    Raises UsageError for wishes that contradict each other or the model, BadGguf for a model llama.cpp refuses.
    """
    architecture = read_architecture(model.metadata, model.tensors)
    case = Case(
        model=model,
        quant=quant,
        machine=machine,
        architecture=architecture,
        weights=weigh(architecture, model.tensors, {device.backend for device in machine.devices}),
        budgets=read_budgets(machine),
    )
    contexts = choose_contexts(architecture, workload, default_ctx)
    first: Arrangement | None = None
    for size in contexts.sizes:
        arrangement = arrange(case, settle(architecture, workload, size), workload)
        if arrangement.fits:
            reason = contexts.reason
            if first is not None:
                reason = f"nobody asked for one, and {contexts.sizes[0]} does not fit"
            return _plan(case, workload, arrangement, reason)
        first = first or arrangement
    if first is None:
        raise LauncherError("no context was tried")
    return explain_shortfall(case, workload, first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The first quant that fits, None if none does, and why each one before it does not."""

    plan: Plan | None
    losers: tuple[Shortfall, ...]


def choose(
    candidates: Iterable[tuple[str, ModelFile]],
    machine: Machine,
    workload: Workload,
    *,
    default_ctx: int | None = None,
) -> Choice:
    """Take the first of these quants (best first) that fits."""
    losers: list[Shortfall] = []
    for quant, model in candidates:
        outcome = make_plan(model, quant, machine, workload, default_ctx=default_ctx)
        if isinstance(outcome, Plan):
            return Choice(plan=outcome, losers=tuple(losers))
        losers.append(outcome)
    return Choice(plan=None, losers=tuple(losers))


def _plan(case: Case, workload: Workload, arrangement: Arrangement, ctx_reason: str) -> Plan:
    settled, placement = arrangement.settled, arrangement.placement
    parameters = settled.parameters
    _check_pattern(case.model, placement)
    load_mode, load_reason = choose_load_mode(workload, _load_facts(case, arrangement))
    threads, thread_reason = choose_threads(case.machine.cpu)
    kv_bytes = sum(row.kv.n_bytes for row in arrangement.ledger)
    warmup = not arrangement.streams
    return Plan(
        model_id=case.model.model_id,
        source=case.model.source,
        quant=case.quant,
        size_bytes=case.model.size_bytes,
        ctx_size=parameters.ctx_size,
        n_parallel=parameters.n_parallel,
        cache_type_k=parameters.cache_type_k,
        cache_type_v=parameters.cache_type_v,
        batch_size=parameters.batch_size,
        ubatch_size=parameters.ubatch_size,
        flash_attn=settled.flash_attn,
        load_mode=load_mode,
        cache_ram_bytes=arrangement.caches.cache_ram_bytes,
        ctx_checkpoints=arrangement.caches.ctx_checkpoints,
        warmup=warmup,
        threads=threads,
        placement=placement,
        ledger=arrangement.ledger,
        reasons=(
            *describe_placement(arrangement.demand, placement, case.budgets),
            describe_pool(parameters, kv_bytes, ctx_reason),
            *settled.reasons,
            load_reason,
            *(() if warmup else ("no warm-up: it would read all weights from disk once more",)),
            *arrangement.caches.reasons,
            thread_reason,
            *describe_budgets(case.machine, case.budgets),
        ),
    )


def _load_facts(case: Case, arrangement: Arrangement) -> LoadFacts:
    placement = arrangement.placement
    shared = {device.id for device in case.machine.devices if device.shares_host_memory}
    part_on_host = bool(placement.host_expert_blocks) or placement.n_gpu_layers <= placement.n_block
    return LoadFacts(
        file_bytes=case.model.size_bytes,
        host_bytes=arrangement.ledger[-1].weights.n_bytes,
        offloads=bool(placement.devices) and part_on_host,
        shares_memory=bool(shared & set(placement.devices)),
        ram_bytes=case.budgets.host_bytes,
        streams=arrangement.streams,
    )


def _check_pattern(model: ModelFile, placement: Placement) -> None:
    """A pattern that matches nothing loads silently: prove what ours matches, name by name."""
    blocks = placement.host_expert_blocks
    if not blocks:
        return
    experts = matched_names(EXPERTS, (tensor.name for tensor in model.tensors))
    wanted = {name for name in experts if _block_of(name) in blocks}
    found = set(matched_names(expert_pattern(blocks), (tensor.name for tensor in model.tensors)))
    if found != wanted or {_block_of(name) for name in found} != set(blocks):
        odd = min(found ^ wanted, default=f"blocks {blocks}")
        raise LauncherError(f"the tensor override of this plan is wrong about {odd}")


def _block_of(name: str) -> int | None:
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blk" and len(parts) > 2 and parts[1].isdecimal() else None
