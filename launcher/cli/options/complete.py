"""Complete what is typed: models, machines, deployments, modes. Nothing here fails or asks a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from launcher.errors import LauncherError


def complete_ref(incomplete: str) -> list[str]:
    """Return profiles that begin so, with their quants after a colon."""
    with contextlib.suppress(LauncherError, OSError):
        from launcher.models.catalogue import read_profiles
        from launcher.system.settings import read_settings

        profiles = read_profiles(read_settings(lambda _: None)).usable
        name, colon, _ = incomplete.partition(":")
        if colon:
            quants = (quant.name for each in profiles if each.name == name for quant in each.quants)
            return _beginning((f"{name}:{quant}" for quant in quants), incomplete)
        return _beginning((each.name for each in profiles), incomplete)
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
