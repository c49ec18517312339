"""Complete what is typed: models, machines, deployments, modes. Nothing here fails or asks a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from launcher.errors import LauncherError

if TYPE_CHECKING:
    from launcher.models.profiles.profile import ModelProfile


def complete_ref(incomplete: str) -> list[str]:
    """Return profiles that begin so; after a colon, the quants of one."""
    with contextlib.suppress(LauncherError, OSError, ValueError):
        name, colon, _ = incomplete.partition(":")
        if not colon:
            return _beginning(_profile_files(), incomplete)
        if profile := _profile(name):
            return _beginning((f"{name}:{quant.name}" for quant in profile.quants), incomplete)
    return []


def complete_machine(incomplete: str) -> list[str]:
    with contextlib.suppress(LauncherError, OSError):
        from launcher.system.settings import profiles_dir

        return _beginning((file.stem for file in (profiles_dir() / "machines").glob("*.toml")), incomplete)
    return []


def complete_deployment(incomplete: str) -> list[str]:
    with contextlib.suppress(LauncherError, OSError):
        from launcher.system.settings import read_settings

        folder = read_settings(lambda _: None).deployments_dir
        return _beginning((file.stem for file in folder.glob("*.json")), incomplete)
    return []


def complete_mode(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the modes of the profile that was typed that begin so."""
    with contextlib.suppress(LauncherError, OSError, ValueError):
        # an option without its value ends the parsing: what was typed before is in `args` then
        typed = next(iter(ctx.args), ctx.params.get("ref") or "")
        if profile := _profile(str(typed).partition(":")[0]):
            return _beginning((mode.name for mode in profile.modes), incomplete)
    return []


def _profile_files() -> dict[str, Path]:
    """Return the profiles by name. All are not read: that takes longer than a person waits for a tab."""
    from launcher.system.settings import profiles_dir, read_settings

    folders = (profiles_dir() / "models", read_settings(lambda _: None).own_profiles_dir / "models")
    return {file.stem: file for folder in folders for file in folder.glob("*.toml")}


def _profile(name: str) -> ModelProfile | None:
    """Return the profile called `name`. Raises UsageError, OSError or ValueError for a broken file."""
    file = _profile_files().get(name)
    if file is None:
        return None
    from launcher.models.profiles.from_toml import parse_model_profile
    from launcher.system.small_files import read_small_text

    return parse_model_profile(read_small_text(file), name)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
