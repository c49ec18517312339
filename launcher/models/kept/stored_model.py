"""A quant in a store, and the groups of files in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.file_names import FileGroup, group_all
from launcher.models.transfer.journal import arrived_bytes
from launcher.system.owned_files import Owner, read_file

_MAX_REF_BYTES = 128  # a commit has 40 digits, 64 in repositories that hash with SHA-256

HUB, OWN, OLLAMA, LM_STUDIO, YOURS = "hub", "launcher", "ollama", "lm studio", "yours"
"""The stores. OWN: files that launcher put into its own folder or one that was named; YOURS: the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One quant in one store."""

    # the names of the fields are the keys of `ls --json`

    name: str  # what `rm` takes; in a folder that was named, the path of the first file
    quant: str
    store: str
    size_bytes: int | None  # None: nothing says how much there should be
    here_bytes: int  # what has arrived of it
    is_whole: bool
    # Seconds of the epoch: the last read, as exactly as the file system keeps it, or the last `up`.
    used_at: float | None
    folder: Path  # the store's folder, or the repo's in the Hub's cache
    paths: tuple[Path, ...]  # the names to remove
    parts: tuple[Path, ...] = ()  # partial files

    @property
    def is_by_path(self) -> bool:
        """True in a folder that was named."""
        # files there are the user's unless launcher put them there
        return self.name.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantFiles:
    group: FileGroup
    paths: tuple[Path, ...]
    partial_paths: tuple[Path, ...]

    @property
    def size_bytes(self) -> int | None:
        """The quant's size; None unless all of its files are known."""
        return self.group.size_bytes if self.group.is_complete else None

    def stored_as(self, name: str, store: str, folder: Path, size_bytes: int | None) -> StoredModel:
        """Describe the quant as a model of `store`. Raises OSError."""
        here = sum(path.stat().st_size for path in self.paths) + sum(map(arrived_bytes, self.partial_paths))
        times = [path.stat().st_atime for path in self.paths]
        times += [path.stat().st_mtime for path in self.partial_paths]
        n_files = len(self.group.names)
        return StoredModel(
            name=name,
            quant=self.group.label,
            store=store,
            size_bytes=size_bytes,
            here_bytes=here,
            is_whole=self.group.is_complete and len(self.paths) == n_files and not self.partial_paths,
            used_at=max(times, default=None),
            folder=folder,
            paths=self.paths,
            parts=self.partial_paths,
        )


def quants_in(folder: Path) -> Iterator[QuantFiles]:
    """Group the model files directly in a folder by quant."""
    with contextlib.suppress(OSError):
        here = {path.name: path for path in entries(folder, "*.gguf") if path.is_file()}
        partial = {path.name.removesuffix(".part"): path for path in entries(folder, "*.gguf.part")}
        sizes = {name: path.stat().st_size for name, path in (partial | here).items()}
        for group in group_all(sizes.items()):
            yield QuantFiles(
                group=group,
                paths=tuple(here[name] for name in group.names if name in here),
                partial_paths=tuple(
                    partial[name] for name in group.names if name in partial and name not in here
                ),
            )


def entries(folder: Path, pattern: str) -> list[Path]:
    """List what matches in a folder; nothing if it is not there, or another user's."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def read_ref(path: Path) -> str | None:
    """Return the commit in a file of `refs/`; None if there is none, or if it could lead elsewhere."""
    try:
        text, _ = read_file(path, _MAX_REF_BYTES, owner=Owner.ANYONES)
    except OSError:  # a folder: branches may have a slash
        return None
    commit = text.decode(errors="replace").strip()
    return commit if commit.isascii() and commit.isalnum() else None
