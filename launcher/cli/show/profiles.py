"""Profiles as a table, and one profile in full."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from rich.console import Group, RenderableType

from launcher.cli.show.tables import facts, grid
from launcher.models.profiles.profile import (
    ApiEquivalent,
    CompanionFile,
    ModelProfile,
    ProfileQuant,
    SizeBasis,
)
from launcher.units import format_bytes


def render_profiles(profiles: Iterable[ModelProfile]) -> RenderableType:
    """Lay out one row per profile."""
    rows = [
        (
            profile.name,
            profile.title,
            ", ".join(quant.name for quant in profile.quants),
            str(profile.context.max),
            profile.license,
        )
        for profile in profiles
    ]
    headers = ("profile", "model", "quants, best first", "context", "license")
    return grid(headers, rows, right=frozenset({"context"}), whole=frozenset({"profile"}))


def render_profile(profile: ModelProfile) -> RenderableType:
    """Lay out one profile: what it says of the model, and a row per quant."""
    head = facts(
        [
            ("profile", f"{profile.name}: {profile.title}"),
            ("about", profile.description),
            ("license", profile.license),
            ("home", profile.homepage),
            ("context", f"{profile.context.default} planned, {profile.context.max} at most"),
            ("for", ", ".join(profile.purposes)),
            ("images", None if profile.projector is None else _companion(profile.projector)),
            ("drafts", None if profile.draft is None else _companion(profile.draft)),
            *((score.benchmark, f"{score.value:g} ({score.source})") for score in profile.scores),
            ("modes", ", ".join(mode.name for mode in profile.modes)),
            ("flags", shlex.join(profile.flags) or None),
            ("as API", None if profile.api is None else _price(profile.api)),
        ]
    )
    rows = [
        (
            quant.name,
            f"{quant.repo}:{quant.label}",
            _size(quant),
            str(quant.n_shards or "?"),
            quant.quality,
        )
        for quant in profile.quants
    ]
    headers = ("quant", "where", "size", "files", "quality")
    return Group(head, grid(headers, rows, right=frozenset({"size", "files"})))


def _companion(file: CompanionFile) -> str:
    size = "" if file.size_bytes is None else f", {format_bytes(file.size_bytes)}"
    return f"{file.repo}/{file.file}{size} ({file.source})"


def _price(api: ApiEquivalent) -> str:
    price = f"${api.input_usd_per_mtok:g} in, ${api.output_usd_per_mtok:g} out per million tokens"
    return f"{api.provider} {api.model_id}: {price} ({api.as_of})"


def _size(quant: ProfileQuant) -> str:
    about = "" if quant.size_basis is SizeBasis.EXACT or quant.size_bytes is None else "~"
    return about + format_bytes(quant.size_bytes)
