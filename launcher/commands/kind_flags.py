"""Add what lets a model do what it is for without being asked: embed, rerank, or see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launcher.commands.planned import Planned, PlanRequest, ProjectorChoice, with_reasons
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import LauncherError
from launcher.gguf.companion_names import companion_kind
from launcher.gguf.file_names import model_name, pick_projector, quant_label
from launcher.gguf.model import ModelFile
from launcher.models.located import LocalFiles, Located, UnreachableFiles
from launcher.models.profiles.profile import ModelProfile

# llama.cpp's pooling types (include/llama.h, enum llama_pooling_type) of models that do not generate
_POOLING_RANK = 4
_EMBEDDING_POOLING = range(1, 4)  # mean, cls, last

_OUTPUT_FLAGS = frozenset({"--embedding", "--rerank"})
_PROJECTOR_FLAGS = frozenset({"-mm", "-mmu", "--no-mmproj", "--rpc"})


def output_flags(model: ModelFile, typed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flag with which a model embeds or reranks, if that is what it is for."""
    if _OUTPUT_FLAGS & _names(typed):
        return ()
    pooling = model.metadata.get(f"{model.metadata.get('general.architecture')}.pooling_type")
    if pooling == _POOLING_RANK:
        return ("--reranking",)
    return ("--embeddings",) if isinstance(pooling, int) and pooling in _EMBEDDING_POOLING else ()


def plan_seeing(
    request: PlanRequest,
    located: Located,
    profile: ModelProfile | None,
    plan: Callable[[PlanRequest], Planned],
) -> tuple[PlanRequest, Planned]:
    """Plan with the model's projector where that fits, else without it; return what was planned, too."""
    projector = find_projector(located, profile, request.flags) if request.vision else None
    if projector is None:
        return request, plan(request)
    if not projector.flags:
        return request, _without(plan(request), projector, "could not be looked at")
    seeing = replace(request, flags=(*request.flags, *projector.flags))
    try:
        planned = plan(seeing)
    except LauncherError as error:  # one of the model itself comes again
        return request, _without(plan(request), projector, f"cannot be used: {error.message}")
    if planned.plan is not None and planned.plan.unverified is None:
        return seeing, replace(planned, projector=_measured(projector, planned))
    blind = plan(request)
    if blind.plan is None or (planned.plan is not None and blind.plan.unverified is not None):
        return seeing, planned
    return request, _without(blind, _measured(projector, planned), _what_is_wrong(planned))


def find_projector(
    located: Located, profile: ModelProfile | None, typed: tuple[str, ...]
) -> ProjectorChoice | None:
    """Find a model's projector: in its repo, its folder or its profile. None where flags decide."""
    if _PROJECTOR_FLAGS & _names((*(profile.flags if profile else ()), *typed)):
        return None
    match located.files:
        case LocalFiles(paths=paths):
            beside = _projector_beside(paths[0])
            return None if beside is None else ProjectorChoice(name=beside.name, flags=("-mm", str(beside)))
        case UnreachableFiles():
            named = None if profile is None else profile.projector
            return None if named is None else ProjectorChoice(name=named.file, size_bytes=named.size_bytes)
        case _ if located.projector is not None:
            return ProjectorChoice(
                name=located.projector.rpartition("/")[2], flags=("-mmu", located.projector)
            )
    return None


def _measured(projector: ProjectorChoice, planned: Planned) -> ProjectorChoice:
    found = planned.companions.projector
    return projector if found is None else replace(projector, size_bytes=found.model.size_bytes)


def _what_is_wrong(planned: Planned) -> str:
    short = planned.choice.shortfall
    if short is not None:
        return f"does not fit: {short.lack}"
    if planned.companions.projector is None:
        return "could not be read"
    return "cannot be counted by this engine"


def _without(planned: Planned, projector: ProjectorChoice, why: str) -> Planned:
    if planned.plan is None:
        return planned
    planned = replace(planned, projector=replace(projector, left_out=why))
    return with_reasons(planned, f"planned without images: {projector.name} {why}")


def _projector_beside(path: Path) -> Path | None:
    """Return the projector in the folder of a model's file, where the model is the folder's only one."""
    names = sorted(each.name for each in path.parent.glob("*.gguf"))
    if len({_without_quant(name) for name in names if companion_kind(name) is None}) != 1:
        return None  # of several models nobody knows whose it is
    found = pick_projector(names, quant_label(path.name) or "")
    return None if found is None else path.parent / found


def _without_quant(name: str) -> str:
    return model_name(name).lower().replace((quant_label(name) or "").lower(), "").strip("-._")


def _names(flags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for name, _ in split_flags(flags))
