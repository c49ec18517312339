"""Find local files with a wanted sha256, and damaged ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.model import Shard
from launcher.models.files.hashing import hash_files
from launcher.models.files.other_programs import find_candidates
from launcher.models.store import HubStore
from launcher.progress import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFile:
    """A file here with another hash than the Hub's."""

    path: Path
    identity: tuple[int, int]  # device and inode
    sha256: str

    def is_at(self, path: Path) -> bool:
        # another name of the file has the same bytes
        return self.identity == _identity(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Compare local files with the Hub's sha256."""

    store: HubStore
    on_progress: OnProgress
    rehash: bool  # read again what matched before

    def find_damaged(self, files: Sequence[tuple[Shard, Path]]) -> dict[str, DamagedFile]:
        """Return the files that differ, by shard name. Raises OSError."""
        hashed = [(shard.name, path, shard.sha256) for shard, path in files if shard.sha256 is not None]
        digests = self._hash([(path, sha256) for _, path, sha256 in hashed])
        return {
            name: DamagedFile(path=path, identity=_identity(path), sha256=digest)
            for (name, path, sha256), digest in zip(hashed, digests, strict=True)
            if digest != sha256
        }

    def find_copies(
        self, shards: Sequence[Shard], folders: Sequence[Path], damaged: Collection[DamagedFile]
    ) -> dict[str, Path]:
        """Return, by shard name, a file in or below `folders` that has the shard's hash."""
        # unreadable files are reported and left out
        pairs: list[tuple[str, Path, str]] = []
        candidates = find_candidates(shards, folders)
        for shard in shards:
            for path in candidates.get(shard.name, ()):
                if any(file.is_at(path) for file in damaged):
                    # a hard link of a damaged file, which may be remembered as right under this name
                    self.store.forget_verified(path.resolve())
                elif shard.sha256 is not None:
                    pairs.append((shard.name, path, shard.sha256))
        digests = self._hash([(path, sha256) for _, path, sha256 in pairs], skip_unreadable=True)
        copies: dict[str, Path] = {}
        for (name, path, sha256), digest in zip(pairs, digests, strict=True):
            if digest == sha256:
                copies.setdefault(name, path)
        return copies

    def has_hash(self, path: Path, shard: Shard) -> bool:
        """Return True if the file exists and has the shard's sha256. Raises OSError if unreadable."""
        sha256 = shard.sha256 or ""
        try:
            return hash_files([(path, sha256)], self.store, self.on_progress) == (sha256,)
        except FileNotFoundError:
            return False

    def remember(self, path: Path, shard: Shard) -> None:
        # it was hashed on its way here
        if shard.sha256 is not None:
            self.store.keep_verified(path.resolve(), shard.sha256)

    def _hash(self, files: Sequence[tuple[Path, str]], *, skip_unreadable: bool = False) -> tuple[str, ...]:
        return hash_files(
            files, self.store, self.on_progress, rehash=self.rehash, skip_unreadable=skip_unreadable
        )


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
