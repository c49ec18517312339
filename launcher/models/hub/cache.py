"""The Hub's own cache as the place of a repo's files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub
from huggingface_hub.file_download import repo_folder_name

from launcher.gguf.model import Shard
from launcher.models.files.disk_space import MissingFile
from launcher.models.files.place import (
    NO_LINK_ERRORS,
    has_size,
    link_file,
    linked_blob,
    partial_path_of,
    temporary_path_beside,
)
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import HubFiles
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.system.atomic_files import write_atomically
from launcher.system.locks import exclusive_if_free
from launcher.system.small_files import open_regular, read_small
from launcher.units import MIB

_ORPHAN_AGE_S = 600.0  # a live download writes all the time; the age guards file systems where locks lie


def repo_cache(endpoint: Endpoint, repo: str) -> Path:
    """Return the repo's folder in the Hub's cache."""
    return endpoint.cache_dir / repo_folder_name(repo_id=repo, repo_type="model")


def cached_file(endpoint: Endpoint, files: HubFiles, shard: Shard) -> Path | None:
    """Return where the Hub's cache has this shard with its true size, or None."""
    cached = huggingface_hub.try_to_load_from_cache(
        files.repo, shard.name, cache_dir=endpoint.cache_dir, revision=files.commit
    )
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    return path if path.stat().st_size == shard.size_bytes else None


def missing_hub_files(
    endpoint: Endpoint, files: HubFiles, shards: Iterable[Shard], folder: Path | None = None
) -> list[MissingFile]:
    """List the shards that neither the Hub's cache nor `folder` has."""
    cache = HubCache(endpoint, files)
    missing = []
    for shard in shards:
        path = folder / shard.name if folder else cache.path(shard)
        partial_path = partial_path_of(path) if folder else cache.partial_path(shard)
        if not (cache.has(shard) or has_size(path, shard)):
            missing.append((shard, partial_path))
    return missing


class HubCache:
    """A `Place`: the files of one repo at one commit in the Hub's cache."""

    # The layout is huggingface_hub's: blobs/ by hash, snapshots/COMMIT/NAME as links to them, refs/BRANCH
    # with the commit; `hf`, transformers and `llama-server -hf` find what is there. The lock of a blob is the
    # library's own flock, so a download of the same file by `hf` is waited for.

    alternative = "set HF_HUB_CACHE to another folder"

    def __init__(self, endpoint: Endpoint, files: HubFiles) -> None:
        self._endpoint, self._files = endpoint, files
        self._folder = repo_cache(endpoint, files.repo)
        self.root = endpoint.cache_dir

    def refuse_foreign(self, missing: Iterable[Shard]) -> None:
        pass  # names in the cache are the repo's own

    def record_owner(self, shard: Shard) -> None:
        pass

    def identity(self, content: str) -> str:
        return content

    def path(self, shard: Shard) -> Path:
        return self._folder / "snapshots" / self._files.commit / shard.name

    def has(self, shard: Shard) -> bool:
        """Return True if a file of the listed size is here, from this commit or another."""
        has_blob = shard.sha256 is not None and has_size(self._blob(shard), shard)
        return has_blob or cached_file(self._endpoint, self._files, shard) is not None

    def find(self, shard: Shard) -> Path | None:
        cached = cached_file(self._endpoint, self._files, shard)
        if cached is not None:
            return cached
        blob = self._blob(shard)
        if shard.sha256 is not None and has_size(blob, shard):
            self._point(shard, blob)  # another commit brought it
            return self.path(shard)
        if os.path.lexists(self.path(shard)) or os.path.lexists(blob):
            self.remove(shard)  # cut off by a crash: the library would take it for the shard
        self._remove_orphans(shard)
        return None

    def partial_path(self, shard: Shard) -> Path:
        return partial_path_of(self._blob(shard))

    def lock_path(self, shard: Shard) -> Path:
        return self._endpoint.cache_dir / ".locks" / self._folder.name / f"{self._blob(shard).name}.lock"

    def accept(self, shard: Shard, partial_file: PartialFile) -> None:
        path = partial_file.path
        blob = self._blob(shard) if shard.sha256 else path.with_name(_git_oid(path))
        partial_file.become(blob)
        self._point(shard, blob)

    def link(self, shard: Shard, source: Path) -> bool:
        link_file(source, self._blob(shard))
        remove_partial_file(self.partial_path(shard))
        self._point(shard, self._blob(shard))
        return True

    def remove(self, shard: Shard) -> None:
        pointer = self.path(shard)
        blob = linked_blob(pointer, self._folder / "blobs") if pointer.is_symlink() else None
        if blob is not None:  # else the link goes, and the user's file that it names stays
            blob.unlink(missing_ok=True)
        pointer.unlink(missing_ok=True)
        if shard.sha256 is not None:
            self._blob(shard).unlink(missing_ok=True)

    def finish(self) -> None:
        # names the commit as the library does, so that offline `hf` and `llama-server -hf` find it
        if self._files.revision is None:
            return
        ref = self._folder / "refs" / self._files.revision
        with contextlib.suppress(OSError):  # a read-only cache that has all files is fine
            if not ref.exists() or read_small(ref) != self._files.commit.encode():
                write_atomically(ref, self._files.commit.encode())

    def _blob(self, shard: Shard) -> Path:
        # the library names blobs by the Hub's ETag; without a sha256 that is known only at the end (`accept`)
        name = shard.sha256 or hashlib.sha256(f"{self._files.commit}/{shard.name}".encode()).hexdigest()[:40]
        return self._folder / "blobs" / name

    def _point(self, shard: Shard, blob: Path) -> None:
        """Make the shard's name in the snapshot a link to `blob`."""
        pointer = self.path(shard)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        new = temporary_path_beside(pointer)
        try:
            new.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError as error:
            if error.errno not in NO_LINK_ERRORS:
                raise
            blob.replace(pointer)  # the library then has the file itself here
        else:
            new.replace(pointer)

    def _remove_orphans(self, shard: Shard) -> None:
        """Remove partial files of killed downloads by the library."""
        # it never resumes one (its issue 4196)
        orphans = list((self._folder / "blobs").glob(f"{shard.sha256}*.incomplete")) if shard.sha256 else []
        if not orphans:
            return
        with exclusive_if_free(self.lock_path(shard)) as free:
            for orphan in orphans if free else []:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - orphan.stat().st_mtime > _ORPHAN_AGE_S:
                        orphan.unlink()


def _git_oid(path: Path) -> str:
    """Return git's name for a file's content: the Hub's ETag outside LFS."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open_regular(path) as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()
