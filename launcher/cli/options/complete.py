"""Complete what is typed: models, machines, deployments, modes. Nothing here fails or asks a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from launcher.errors import LauncherError


def complete_ref(incomplete: str) -> list[str]:
    """Return profiles that begin so; after a colon, the quants of one."""
    with contextlib.suppress(LauncherError, OSError, ValueError):
        from launcher.system.settings import profiles_dir, read_settings

        # by the names of the files: to read all of them takes longer than a person waits for a tab
        folders = (profiles_dir() / "models", read_settings(lambda _: None).own_profiles_dir / "models")
        files = {file.stem: file for folder in folders for file in folder.glob("*.toml")}
        name, colon, _ = incomplete.partition(":")
        if not colon:
            return _beginning(files, incomplete)
        if name in files:
            from launcher.models.profiles.from_toml import parse_model_profile
            from launcher.system.small_files import read_small_text

            profile = parse_model_profile(read_small_text(files[name]), name)
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


def complete_mode(incomplete: str) -> list[str]:
    with contextlib.suppress(LauncherError, OSError):
        from launcher.models.catalogue import read_profiles
        from launcher.system.settings import read_settings

        profiles = read_profiles(read_settings(lambda _: None)).usable
        return _beginning({mode.name for each in profiles for mode in each.modes}, incomplete)
    return []


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
