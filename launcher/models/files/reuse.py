"""Which files of this machine are what is wanted, and which are damaged: by their sha256, hashed or remembered."""

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
    """A file that is here with a hash that is not the Hub's. `identity` is its device and inode."""

    path: Path
    identity: tuple[int, int]
    sha256: str

    def is_at(self, path: Path) -> bool:
        """Whether this very file is at `path`: another name of it has the same bytes."""
        return self.identity == _identity(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """`anew`: what was found right before is hashed again. What raises OSError for a file that cannot be read says so."""

    store: HubStore
    on_progress: OnProgress
    anew: bool

    def damaged(self, found: Sequence[tuple[Shard, Path]]) -> dict[str, DamagedFile]:
        """Those of the files that are not what the Hub says, by their shard's name. Raises OSError for one that cannot be read."""
        hashed = [(shard.name, path, shard.sha256) for shard, path in found if shard.sha256 is not None]
        digests = self._verify([(path, sha256) for _, path, sha256 in hashed])
        return {
            name: DamagedFile(path=path, identity=_identity(path), sha256=digest)
            for (name, path, sha256), digest in zip(hashed, digests, strict=True)
            if digest != sha256
        }

    def right(
        self, shards: Sequence[Shard], folders: Sequence[Path], damaged: Collection[DamagedFile]
    ) -> dict[str, Path]:
        """For each of the shards, by name, a file in or below the folders that has its hash. A damaged file is none by
        whichever name, and those names are forgotten: it may be remembered as right by them. Nor is one that cannot be
        read, which is said."""
        pairs: list[tuple[str, Path, str]] = []
        found = find_candidates(shards, folders)
        for shard in shards:
            for path in found.get(shard.name, ()):
                if any(one.is_at(path) for one in damaged):
                    self.store.forget_verified(path.resolve())
                elif shard.sha256 is not None:
                    pairs.append((shard.name, path, shard.sha256))
        digests = self._verify([(path, sha256) for _, path, sha256 in pairs], pass_over=True)
        right: dict[str, Path] = {}
        for (name, path, sha256), digest in zip(pairs, digests, strict=True):
            if digest == sha256:
                right.setdefault(name, path)
        return right

    def is_right(self, path: Path, shard: Shard) -> bool:
        """Whether the file, if it is there, has the shard's sha256; read only where that is not known.
        Raises OSError for one that cannot be read."""
        sha256 = shard.sha256 or ""
        try:
            return hash_files([(path, sha256)], self.store, self.on_progress) == (sha256,)
        except FileNotFoundError:
            return False

    def _verify(self, files: Sequence[tuple[Path, str]], *, pass_over: bool = False) -> tuple[str, ...]:
        return hash_files(files, self.store, self.on_progress, anew=self.anew, pass_over=pass_over)


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
