"""Keep facts between runs: headers, listings, verified files, owners of files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.gguf.header import MAX_HEADER_BYTES
from launcher.gguf.model import Shard
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import parse_json
from launcher.system.locks import exclusive
from launcher.system.settings import Settings
from launcher.system.small_files import read_small
from launcher.units import MIB

_HEADERS_BYTES = 256 * MIB  # about 40 models of Kimi's size: its first shard's header has 160k tokens, 4-8 MB
_MOST_LISTINGS = 200  # a listing of 100 files is 15 KB
_MOST_HEADER_BYTES = MAX_HEADER_BYTES + 4096  # with the line before it
_MOST_BYTES = 16 * MIB  # of every other file
_MOST_ENTRIES = 4096  # of each file below; the oldest entries go first
_BRANCHES = "branches.json"
_VERIFIED, _OWNERS, _FOLDERS, _USED = "verified.json", "owners.json", "folders.json", "used.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    repo: str
    commit: str
    revision: str | None  # the branch or tag it was asked by, None for a commit
    files: tuple[Shard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """What each file in a plain folder was put there for: a repo or a URL."""

    records: Mapping[str, Any]  # by `file_key`

    def of(self, path: Path) -> str | None:
        """Return the owner of a file; None if it is not the very file that was put there."""
        # Forgotten or changed, it counts as the user's: neither replaced nor removed.
        try:
            match self.records.get(file_key(path)):
                case [*identity, str() as owner] if identity == [*_identity(path.lstat())]:
                    return owner
        except OSError:
            pass
        return None

    def folders(self) -> frozenset[Path]:
        return frozenset(Path(key).parent for key in self.records if key.startswith("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStore:
    """Facts kept in `folder`, which may be deleted at any time."""

    # Entries save work and decide nothing: what is damaged counts as absent, a failed write is skipped.

    folder: Path  # made when first written to

    def header(self, repo: str, commit: str, file: str, size_bytes: int) -> bytes | None:
        path = self._header_path(repo, commit, file)
        try:
            first, _, body = read_small(path, _MOST_HEADER_BYTES).partition(b"\n")
            about = parse_json(first)
        except (OSError, ValueError):
            return None
        if about != _about(repo, commit, file, size_bytes, body):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # last used: the oldest go first
        return body

    def keep_header(self, repo: str, commit: str, file: str, size_bytes: int, header: bytes) -> None:
        about = json.dumps(_about(repo, commit, file, size_bytes, header))
        with contextlib.suppress(OSError):
            write_atomically(self._header_path(repo, commit, file), about.encode() + b"\n" + header)
            _prune(self.folder / "headers", _HEADERS_BYTES)

    def listing(self, repo: str, commit: str) -> Listing | None:
        try:  # a kept listing stays right: commits never change
            document = parse_json(read_small(self._listing_path(repo, commit), _MOST_BYTES))
            if (document["repo"], document["commit"]) != (repo, commit):
                return None
            files = tuple(Shard(**file) for file in document["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not all(isinstance(file.name, str) and isinstance(file.size_bytes, int) for file in files):
            return None
        return Listing(repo=repo, commit=commit, revision=None, files=files)

    def listings(self, repo: str) -> tuple[Listing, ...]:
        commits: list[str] = []
        for path in (self.folder / "listings").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                document = parse_json(read_small(path, _MOST_BYTES))
                if document["repo"] == repo:
                    commits.append(document["commit"])
        listings = (self.listing(repo, commit) for commit in commits)
        return tuple(listing for listing in listings if listing is not None)

    def keep_listing(self, listing: Listing) -> None:
        files = [asdict(file) for file in listing.files]
        text = json.dumps({"repo": listing.repo, "commit": listing.commit, "files": files})
        with contextlib.suppress(OSError):
            write_atomically(self._listing_path(listing.repo, listing.commit), text.encode())
            prune_to_count(self.folder / "listings", _MOST_LISTINGS)

    def branch(self, repo: str, revision: str) -> str | None:
        """Return the commit of a branch that was last pulled into a plain folder."""
        commit = self._entries(_BRANCHES).get(f"{repo}@{revision}")
        return commit if isinstance(commit, str) else None

    def keep_branch(self, repo: str, revision: str, commit: str) -> None:
        self._change(_BRANCHES, {f"{repo}@{revision}": commit})

    def is_verified(self, path: Path, sha256: str) -> bool:
        """Return True if this very file (size, inode, time of change) once had this hash."""
        try:
            return self._entries(_VERIFIED).get(str(path)) == [*_identity(path.stat()), sha256]
        except OSError:
            return False

    def keep_verified(self, path: Path, sha256: str) -> None:
        with contextlib.suppress(OSError):
            self._change(_VERIFIED, {str(path): [*_identity(path.stat()), sha256]})

    def forget_verified(self, path: Path) -> None:
        if str(path) in self._entries(_VERIFIED):
            self._change(_VERIFIED, {str(path): None})

    def owners(self) -> Owners:
        return Owners(records=self._entries(_OWNERS))

    def keep_owner(self, path: Path, owner: str) -> None:
        with contextlib.suppress(OSError):
            self._change(_OWNERS, {file_key(path): [*_identity(path.lstat()), owner]})

    def forget_owners(self, paths: Iterable[Path]) -> None:
        self._change(_OWNERS, dict.fromkeys(map(file_key, paths)))

    def folders(self) -> tuple[Path, ...]:
        """Return the folders that `--dir` and `--from` named, the latest last."""
        return tuple(Path(folder) for folder in self._entries(_FOLDERS) if folder.startswith("/"))

    def keep_folders(self, folders: Sequence[Path]) -> None:
        self._change(_FOLDERS, {str(folder.resolve()): "" for folder in folders})

    def forget_folders(self, folders: Sequence[Path]) -> None:
        self._change(_FOLDERS, dict.fromkeys(map(str, folders)))

    def used(self) -> Mapping[str, float]:
        """Return when each file was last served, in seconds of the epoch by true path."""
        return {path: at for path, at in self._entries(_USED).items() if isinstance(at, int | float)}

    def keep_used(self, path: Path) -> None:
        self._change(_USED, {str(path.resolve()): time.time()})

    def _entries(self, name: str) -> dict[str, Any]:
        try:
            entries = parse_json(read_small(self.folder / name, _MOST_BYTES))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def _change(self, name: str, changed: Mapping[str, Any]) -> None:
        """Keep these entries as the newest; None forgets one."""
        # Under a lock: another process that read the same file would write it back without these entries.
        with contextlib.suppress(OSError), exclusive(self.folder / f"{name}.lock"):
            entries = {key: value for key, value in self._entries(name).items() if key not in changed}
            entries |= {key: value for key, value in changed.items() if value is not None}
            newest = dict(list(entries.items())[-_MOST_ENTRIES:])
            write_atomically(self.folder / name, json.dumps(newest, indent=0).encode())

    def _header_path(self, repo: str, commit: str, file: str) -> Path:
        return self.folder / "headers" / _key(repo, commit, file)

    def _listing_path(self, repo: str, commit: str) -> Path:
        return self.folder / "listings" / f"{_key(repo, commit)}.json"


def store_of(settings: Settings) -> HubStore:
    return HubStore(folder=settings.cache_dir / "hub")


def file_key(path: Path) -> str:
    """Return a file's path, the same by whatever links its folder is reached."""
    return str(path.parent.resolve() / path.name)


def _key(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:40]


def _about(repo: str, commit: str, file: str, size_bytes: int, header: bytes) -> dict[str, str | int]:
    digest = hashlib.sha256(header).hexdigest()
    return {"repo": repo, "commit": commit, "file": file, "size_bytes": size_bytes, "sha256": digest}


def _identity(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ino


def _prune(folder: Path, most_bytes: int) -> None:
    entries = sorted(
        ((entry.stat(), entry) for entry in folder.iterdir()), key=lambda pair: pair[0].st_mtime_ns
    )
    total = sum(stat.st_size for stat, _ in entries)
    for stat, entry in entries[:-1]:
        if total <= most_bytes:
            return
        entry.unlink(missing_ok=True)
        total -= stat.st_size


def prune_to_count(folder: Path, most: int) -> None:
    """Remove the entries used longest ago until `most` are left. Raises OSError."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime_ns)
    for entry in entries[:-most]:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
