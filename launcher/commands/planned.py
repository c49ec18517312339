"""The outcome of a plan request: as a command line, as JSON, or as the reason there is none."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from launcher.commands.companions import FoundCompanions, files_of, shown_flags, with_files
from launcher.commands.probe import THIS_MACHINE, MachineChoice
from launcher.commands.vllm.plan import VllmPlanned, plan_beside, vllm_document
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import DoesNotFit
from launcher.machine.machine import Machine, pinned_order
from launcher.models.catalogue import Target
from launcher.models.located import LocalFiles, Located, UnreachableFiles
from launcher.models.profiles.modes import server_flags
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.amounts import SPEED
from launcher.plan.as_json import plan_json, shortfall_json
from launcher.plan.forecast.turn import Turn
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.purchase import Purchase
from launcher.plan.workload import Limits, Workload


class Buy(Enum):
    """How to look for what would do if nothing fits."""

    NOT_ASKED = "not asked"
    BY_FIGURES = "by figures"  # in a second
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What the user typed, parsed. `flags` are llama-server's own, from behind `--`."""

    ref: str
    quant: str | None = None
    workload: Workload = Workload()
    limits: Limits = Limits()
    machine: MachineChoice = THIS_MACHINE
    engine: Path | None = None
    # who has chosen that engine, in words
    pinned_by: str | None = None
    flags: tuple[str, ...] = ()
    mode: str | None = None
    buy: Buy = Buy.NOT_ASKED
    untuned: bool = False  # without what `tune` found
    vision: bool = True  # with the projector of a model that has one, where it fits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorChoice:
    """The projector of a model that can see, taken without being asked for, or left out."""

    name: str
    flags: tuple[str, ...] = ()  # llama-server's that load it; none where it could not be looked at
    size_bytes: int | None = None
    left_out: str = ""  # why the plan is without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The outcome of a plan request."""

    target: Target
    machine: Machine
    engine: Engine | None
    capabilities: Capabilities | None
    request: PlanRequest
    choice: Choice
    # of the chosen quant; None without a plan
    located: Located | None
    companions: FoundCompanions
    # empty without a plan
    argv: tuple[str, ...]
    purchases: tuple[Purchase, ...] = ()
    tuned: str = ""  # what of `tune` is in the plan, in words
    projector: ProjectorChoice | None = None  # None: it has none, or flags or --no-vision have decided

    @property
    def plan(self) -> Plan | None:
        return self.choice.plan

    @property
    def vllm(self) -> VllmPlanned | None:
        """What vLLM would do with the model on this machine, where its profile knows."""
        return plan_beside(self.target.profile, self.request.workload, self.machine)


def with_reasons(planned: Planned, *why: str) -> Planned:
    """Return it with these sentences after the reasons of the plan, if there is one."""
    plan = planned.plan
    if plan is None:
        return planned
    plan = replace(plan, reasons=(*plan.reasons, *why))
    return replace(planned, choice=replace(planned.choice, plan=plan))


def fitting(planned: Planned) -> tuple[Plan, Located]:
    """Return the plan and its model. Raises DoesNotFit if there is none."""
    if planned.plan is not None and planned.located is not None:
        return planned.plan, planned.located
    short = planned.choice.shortfall
    if short is None:
        raise DoesNotFit("there is no plan")
    hint = _shortfall_hint(planned.request.ref, short)
    if short.where == SPEED:
        raise DoesNotFit(f"{short.model_id}: {short.reasons[0]}", hint=hint)
    n_quants = len(planned.choice.rejected) + 1
    tried = "" if n_quants == 1 else f", of {n_quants} quants the one that lacks least,"
    raise DoesNotFit(f"{short.model_id} {short.quant}{tried} does not fit: {short.lack}", hint=hint)


def files_to_bring(planned: Planned) -> tuple[Located, ...]:
    """List the plan's model, then the companions that are not here yet.

    Raises DoesNotFit without a plan, and the reason why a companion cannot be had.
    """
    return (fitting(planned)[1], *files_of(planned.companions.remote))


def compile_argv(planned: Planned, plan: Plan, serving: Serving) -> tuple[str, ...]:
    """Say the plan in the engine's dialect. Raises UsageError where it cannot be said there."""
    return server_argv(
        plan,
        serving,
        program=str(planned.engine.path) if planned.engine else "llama-server",
        capabilities=planned.capabilities,
        profile_flags=profile_flags_of(planned),
        user_flags=planned.request.flags,
    )


def profile_flags_of(planned: Planned) -> tuple[str, ...]:
    """Return the profile's sampling flags, in the mode that was asked for."""
    profile = planned.target.profile
    return server_flags(profile, planned.request.mode) if profile else ()


def printed_argv(planned: Planned, plan: Plan, serving: Serving) -> tuple[str, ...]:
    """Say the plan as it is printed and kept: with the URLs of companions, without their secrets."""
    request = replace(planned.request, flags=shown_flags(planned.request.flags))
    return compile_argv(replace(planned, request=request), plan, serving)


def started_with(planned: Planned, paths: Sequence[Path]) -> Planned:
    """Put the paths of companions that were brought here in place of their URLs; `paths` are first shards."""
    flags = with_files(planned.request.flags, planned.companions.remote, paths)
    return replace(planned, request=replace(planned.request, flags=flags))


def pinned(planned: Planned, plan: Plan) -> Workload:
    """Return the workload with what the search chose, so that planning again changes only what it must."""
    workload = planned.request.workload
    plain = plan.cache_type_k is CacheType.F16 and plan.cache_type_v is CacheType.F16
    return replace(
        workload,
        batch_size=plan.batch_size,
        ubatch_size=plan.ubatch_size,
        cache_type_k=workload.cache_type_k if plain else plan.cache_type_k,
        cache_type_v=workload.cache_type_v if plain else plan.cache_type_v,
    )


def path_to_be(located: Located) -> str:
    """Return the model's path where it is known before anything is fetched, else its file's name."""
    match located.files:
        case LocalFiles(paths=paths):
            return str(paths[0])
        case UnreachableFiles(file=file):
            return file
        case _:
            return located.model.shards[0].name


def document(planned: Planned) -> dict[str, Any]:
    """Return the plan, or what is missing, as its versioned JSON."""
    choice = planned.choice
    vllm = planned.vllm
    extra: dict[str, Any] = {
        "purchases": [asdict(each) for each in planned.purchases],
        "api": api_price(planned),
        "vllm": None if vllm is None else vllm_document(vllm),
    }
    if choice.plan is not None:
        env = dict(pinned_order(planned.machine.devices)) if choice.plan.placement.devices else {}
        return plan_json(choice.plan, argv=planned.argv, env=env, choice=choice) | extra
    if choice.shortfall is None:
        raise DoesNotFit("there is no plan")
    return shortfall_json(choice.shortfall, choice=choice) | extra


def api_price(planned: Planned) -> str | None:
    """Price the stated turn as a paid service, where the profile knows one."""
    profile = planned.target.profile
    if profile is None or profile.api is None:
        return None
    api, turn = profile.api, Turn()
    cached = (
        api.input_usd_per_mtok if api.cached_input_usd_per_mtok is None else api.cached_input_usd_per_mtok
    )
    usd = (
        turn.cached_tokens * cached
        + turn.prompt_tokens * api.input_usd_per_mtok
        + turn.reply_tokens * api.output_usd_per_mtok
    ) / 1e6
    return (
        f"{api.provider}'s API ({api.model_id}): ${api.input_usd_per_mtok:g} in and "
        f"${api.output_usd_per_mtok:g} out per million tokens, ${usd:.4f} for a turn of {turn} ({api.as_of})"
    )


def _shortfall_hint(ref: str, shortfall: Shortfall) -> str:
    # the REF as it was typed: the model's id may name no model
    hint = shortfall.hints[0] if shortfall.hints else "--buy"
    return f"launcher plan {shlex.quote(strip_word_secrets(ref))} {hint}"
