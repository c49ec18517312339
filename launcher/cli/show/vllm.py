"""A plan for vLLM as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from launcher.cli.show.tables import bullets, facts, grid
from launcher.commands.vllm.plan import VllmPlanned, describe_ranks
from launcher.plan.vllm.ledger import Between
from launcher.plan.vllm.plan import VllmVerdict
from launcher.units import GIB


def say_vllm(planned: VllmPlanned) -> str:
    """Say in a line what vLLM would do."""
    plan = planned.plan
    what = f"vLLM with {planned.model.quality}"
    if planned.fits:
        tokens = _thousands(plan.tokens)
        return f"{what}, {tokens} tokens of cache: --engine vllm"
    no = "uncertain" if plan.verdict is VllmVerdict.UNCERTAIN else "no"
    return f"{what}: {no}, {plan.lack}{_would_do(planned)}"


def render_vllm(planned: VllmPlanned) -> RenderableType:
    """Lay out the plan: the verdict, the bytes of a GPU, why."""
    return Group(
        facts(
            [
                ("model", f"{planned.model.model_id}  {plan_size(planned)}, {planned.model.quality}"),
                ("source", planned.plan.shape.source),
                ("engine", f"vLLM on {describe_ranks(planned.plan)}"),
                ("context", _context(planned)),
                ("fits", _finding(planned)),
            ]
        ),
        _ledger(planned),
        bullets(_reasons(planned)),
    )


def render_beside(planned: VllmPlanned) -> RenderableType:
    """Lay out what vLLM would do, beside a plan for llama.cpp."""
    return Group(bullets([say_vllm(planned)]), _ledger(planned))


def plan_size(planned: VllmPlanned) -> str:
    return f"{planned.plan.shape.weight_bytes / GIB:.1f} GiB"


def _context(planned: VllmPlanned) -> str:
    plan = planned.plan
    held = f"; the cache holds {_thousands(plan.tokens)} tokens" if planned.fits else ""
    return f"{plan.ctx_size} tokens a request{held}"


def _finding(planned: VllmPlanned) -> str:
    if planned.fits:
        return "yes, by estimate, at the most that vLLM itself may take"
    no = "uncertain" if planned.plan.verdict is VllmVerdict.UNCERTAIN else "no"
    return f"{no}: {planned.plan.lack}{_would_do(planned)}"


def _would_do(planned: VllmPlanned) -> str:
    return "" if planned.would_do is None else f"; {planned.would_do} would do"


def _ledger(planned: VllmPlanned) -> RenderableType:
    plan, ledger = planned.plan, planned.plan.ledger
    share = "RAM that is free" if plan.pool.in_ram else f"{float(plan.utilisation):.2f} of a GPU"
    rows = [
        ("weights", f"{ledger.weights / GIB:.1f}"),
        ("vLLM itself, estimated", _gib(ledger.runtime)),
        ("cache", _room(ledger.room) if plan.ram_cache_gib is None else f"{plan.ram_cache_gib}.0"),
        (share, f"{ledger.budget / GIB:.1f}"),
    ]
    return grid(("memory" if plan.pool.in_ram else "a GPU", "GiB"), rows, right=frozenset({"GiB"}))


def _reasons(planned: VllmPlanned) -> Iterator[str]:
    plan = planned.plan
    yield f"a token takes {plan.ledger.token_bytes} bytes of cache on the rank with least room"
    yield "what vLLM takes beside weights and cache is known to 4-8 GiB: a yes holds at 8"
    if plan.nodes > 1:
        yield (
            f"{plan.nodes} machines: the same command on each, HEAD the first one's address in a network "
            "of their own: ranks trust whoever reaches them"
        )
    if "--trust-remote-code" in planned.flags:
        yield "--trust-remote-code runs Python that is in the model's repo"
    yield "a key for it goes into the variable VLLM_API_KEY, never into the command"


def _gib(band: Between) -> str:
    return f"{band.low / GIB:.1f} to {band.high / GIB:.1f}"


def _room(band: Between) -> str:
    return _gib(band) if band.high else "none"


def _thousands(band: Between) -> str:
    return f"{band.low // 1000}-{-(-band.high // 1000)} k"
