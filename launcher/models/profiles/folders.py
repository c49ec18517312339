"""Read the shipped and the user's profiles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from launcher.errors import UsageError
from launcher.models.profiles.from_toml import find_profiles
from launcher.models.profiles.profile import Profiles
from launcher.system.small_files import read_small_text


def read_model_profiles(folders: Iterable[Path]) -> Profiles:
    """Read all model profiles of the folders that exist; later folders win."""
    files = [file for folder in folders for file in sorted(folder.glob("*.toml"))]
    return find_profiles({str(file): _read(file) for file in files})


def _read(file: Path) -> str | UsageError:
    try:
        return read_small_text(file)
    except (OSError, UnicodeDecodeError) as error:
        return UsageError(f"{file} cannot be read: {error}", hint=f"mend or remove {file}")
