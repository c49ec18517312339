"""Load a model into this process: plan it, bring its files here, make a Llama of it."""

from __future__ import annotations

import itertools
import os
import warnings
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher.commands.claims import claim, claim_rows
from launcher.commands.engine_build import engine_or_build
from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.commands.llama import check_arguments, import_bindings, make_llama
from launcher.commands.plan_and_claim import plan_and_claim
from launcher.commands.planned import Planned, PlanRequest, fitting, profile_flags_of
from launcher.commands.pull import fetch_all
from launcher.deployment import claims
from launcher.errors import UsageError
from launcher.gguf.architecture import read_architecture
from launcher.machine.machine import format_cpu_list
from launcher.models.located import Located
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope

if TYPE_CHECKING:
    from llama_cpp import Llama

_numbers = itertools.count(1)


def load(here: Here, request: PlanRequest, arguments: Mapping[str, Any]) -> Llama:
    """Return the planned model as a llama_cpp.Llama, whose memory other plans count as reserved.

    Raises UsageError for what a Llama cannot do, and what planning and fetching raise.
    """
    check_arguments(arguments)
    request = _for_one_process(request)
    bindings = import_bindings(engine_or_build(here, request.engine, meanwhile=nullcontext))
    name = f"python-{os.getpid()}-{next(_numbers)}"
    key = claims.claim_key(here.settings.deployments_dir, name)
    try:
        target = inspect(here, request.ref, request.quant)
        planned, _ = plan_and_claim(here, request, target, bindings.engine, (key, name))
        plan, located = fitting(planned)
        _refuse_flags(planned)
        [paths] = fetch_all(here, (located,), ("launcher", "pull", located.model.model_id))
        llama = make_llama(bindings, plan, paths[0], arguments)
    except BaseException:
        claims.drop_claim(here.settings.claims_dir, key)
        raise
    claim(here, key, name, claim_rows(plan, planned.machine), os.getpid(), loaded=True)
    weakref.finalize(llama, claims.drop_claim, here.settings.claims_dir, key)
    _keep_windows_whole(llama, located)
    for sentence in _not_expressed(planned, plan, located):
        warnings.warn(sentence, stacklevel=4)
    return llama


def _for_one_process(request: PlanRequest) -> PlanRequest:
    """Return the request without what only a server has. Raises UsageError where it asks for that."""
    workload = request.workload
    if workload.n_parallel != 1:
        raise UsageError(
            f"n_parallel={workload.n_parallel}: a Llama answers one request at a time",
            hint="launcher.up has slots",
        )
    if workload.cache_ram_bytes:
        raise UsageError("cache_ram is a server's: a Llama has no prompt cache", hint="launcher.up has one")
    # what was tuned was a server, some of it in flags that a Llama has nothing like
    alone = replace(workload, cache_ram_bytes=0, ctx_checkpoints=0)
    return replace(request, workload=alone, untuned=True, vision=False)


def _refuse_flags(planned: Planned) -> None:
    # what a plan takes up of llama-server's flags (-ot, -ub) is in it; the rest is the server's
    flags = planned.request.flags
    if flags:
        raise UsageError(
            f"a Llama has nothing like {' '.join(flags)}, which are llama-server's",
            hint="launcher.up takes them; launcher.load takes what plans take: -ot, -ub and the like",
        )
    if planned.request.workload.embedding or planned.request.workload.pooling is not None:
        raise UsageError(
            "launcher.load makes a Llama that answers, not one for embeddings",
            hint="launcher.up(REF, flags=['--embedding'])",
        )
    if planned.request.workload.rope != Rope():
        raise UsageError("launcher.load stretches no context", hint="launcher.up takes RoPE flags")


def _keep_windows_whole(llama: Llama, located: Located) -> None:
    """Have every prompt read from its start where a window slides.

    Llama takes up the prefix that two prompts share, and cells that have left the window are gone
    (llama_kv_cache_iswa::seq_rm does not say so). A cache of full size would know them, at many times its
    memory.
    """
    if not _slides(located):
        return
    remove = llama._ctx.kv_cache_seq_rm  # noqa: SLF001  as Llama.generate calls it

    def from_the_start_alone(sequence: int, start: int, end: int) -> bool:
        cut = 0 < start < llama.n_tokens
        return False if cut else bool(remove(sequence, start, end))

    setattr(llama._ctx, "kv_cache_seq_rm", from_the_start_alone)  # noqa: B010, SLF001  of this object alone


def _slides(located: Located) -> bool:
    return any(read_architecture(located.model.metadata, located.model.tensors).swa_blocks)


def _not_expressed(planned: Planned, plan: Plan, located: Located) -> list[str]:
    """Say what `up` would do for this model and a Llama does not."""
    model = planned.target.model_id
    sentences = []
    flags = [
        flag for flag in profile_flags_of(planned) if flag != "--jinja"
    ]  # a Llama renders templates itself
    if flags:
        sentences.append(
            f"{model} is to be sampled as llama-server would with {' '.join(flags)}: a Llama keeps no such "
            "defaults, give them to each call (temperature=…, top_p=…)"
        )
    if plan.cpus:
        cpus = format_cpu_list(plan.cpus)
        sentences.append(f"the plan binds the process to CPUs {cpus}: start Python with taskset -c {cpus}")
    if _slides(located):
        sentences.append(
            f"{model} has a sliding window: every call reads its prompt from the start (launcher.up keeps "
            "checkpoints)"
        )
    return sentences
