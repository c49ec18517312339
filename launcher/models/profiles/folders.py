"""The folders that profiles are read from: the ones we ship, and the user's own, which win by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from launcher.errors import UsageError
from launcher.models.profiles.from_toml import find_profiles
from launcher.models.profiles.profile import Profiles


def read_model_profiles(folders: Iterable[Path]) -> Profiles:
    """All model profiles of the folders, later folders winning. A folder that is not there has none; a file
    that cannot be used is in `broken` and leaves the others alone."""
    files = [file for folder in folders for file in sorted(folder.glob("*.toml"))]
    return find_profiles({str(file): _read(file) for file in files})


def _read(file: Path) -> str | UsageError:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return UsageError(f"{file} cannot be read: {error}", hint=f"mend or remove {file}")
