"""A model in a store: what `ls` shows and `rm` takes out, and the groups of files in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.file_names import FileGroup, group_all
from launcher.models.transfer.journal import arrived_bytes

HUB, OWN, OLLAMA, LM_STUDIO, YOURS = "hub", "launcher", "ollama", "lm studio", "yours"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One quant in one store. `name` is what `rm` takes, and `up` where it is in the Hub's cache or in a folder that was
    named: there it is the first file's path, and `store` says whether launcher put it there. `here_bytes` of
    `size_bytes` have arrived, unknown where nothing says how many there should be. `used_at` is when a file was
    last read, as exactly as the file system keeps it, or a server was started with it, as seconds of the epoch. `paths` are the names to remove,
    `parts` partial files, `folder` what they are in."""

    name: str
    quant: str
    store: str
    size_bytes: int | None
    here_bytes: int
    is_whole: bool
    used_at: float | None
    folder: Path
    paths: tuple[Path, ...]
    parts: tuple[Path, ...] = ()

    @property
    def is_by_path(self) -> bool:
        """Whether it is in a folder that was named, where files are the user's unless launcher put them there."""
        return self.name.startswith("/")


def groups_in(place: Path) -> Iterator[tuple[FileGroup, tuple[Path, ...], tuple[Path, ...]]]:
    """The groups of one folder's files, with those that are whole and the parts of others."""
    with contextlib.suppress(OSError):
        here = {path.name: path for path in entries(place, "*.gguf") if path.is_file()}
        parts = {path.name.removesuffix(".part"): path for path in entries(place, "*.gguf.part")}
        sizes = {name: path.stat().st_size for name, path in (parts | here).items()}
        for group in group_all(sizes.items()):
            paths = tuple(here[name] for name in group.names if name in here)
            own = tuple(parts[name] for name in group.names if name in parts and name not in here)
            yield group, paths, own


def size_of(group: FileGroup) -> int | None:
    return group.size_bytes if group.is_complete else None


def kept_as(
    name: str,
    group: FileGroup,
    store: str,
    size: int | None,
    folder: Path,
    paths: tuple[Path, ...],
    parts: tuple[Path, ...],
) -> StoredModel:
    here = sum(path.stat().st_size for path in paths) + sum(arrived_bytes(part) for part in parts)
    times = [path.stat().st_atime for path in paths] + [part.stat().st_mtime for part in parts]
    return StoredModel(
        name=name,
        quant=group.label,
        store=store,
        size_bytes=size,
        here_bytes=here,
        is_whole=group.is_complete and len(paths) == len(group.names) and not parts,
        used_at=max(times, default=None),
        folder=folder,
        paths=paths,
        parts=parts,
    )


def entries(folder: Path, pattern: str) -> list[Path]:
    """What is called so in a folder; nothing where it is not there, or another user's."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def read_ref(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):  # a folder: branches may have a slash
        return None
