"""A model whose headers are here and whose weights are wherever `files` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.model import ModelFile, Shard
from launcher.models.transfer.tuning import Tuning
from launcher.progress import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How files are brought here."""

    folder: Path | None = None  # a plain folder to use instead of the store
    look_in: tuple[Path, ...] = ()  # folders whose files may be used, besides the stores that are known
    verify: bool = False  # hash files again that were verified before
    tuning: Tuning | None = None  # None: for the cores that this process may use
    again: str = ""  # the command that continues the pull, for hints; empty if unknown
    later: tuple[tuple[Shard, Path], ...] = ()  # fetched after these files; needs disk space too


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """Shards on this machine, in shard order."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlFiles:
    """Shards behind plain http(s) URLs, in shard order."""

    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """Files of a Hub repo at one commit."""

    repo: str
    commit: str
    names: tuple[str, ...]  # inside the repo, in shard order
    revision: str | None = None  # the branch or tag that named the commit; None if the commit was given


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHeaders:
    """Headers that `inspect --save` kept: enough to plan with, no weights to run."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreachableFiles:
    """Files that could not be looked at; a profile's published architecture stands in for them."""

    repo: str
    file: str  # the first shard's name, or a placeholder for it
    is_name_known: bool  # by the profile; else `file` is a placeholder
    cause: str  # why the files could not be looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredFiles:
    """Files nobody has been asked about yet, because a profile ships their headers."""

    locate: Callable[[OnProgress], Located]  # asks


FileLocations = LocalFiles | UrlFiles | HubFiles | SavedHeaders | UnreachableFiles | DeferredFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A model's headers, and where its weights are."""

    # opening makes one by reading headers only; fetching turns `files` into local paths

    model: ModelFile
    # The first `headers[i].data_offset` bytes of shard i, as in the file: a hollow copy begins with them.
    raw_headers: tuple[bytes, ...]
    files: FileLocations
    notes: tuple[str, ...] = ()  # what a plan made from these headers must say about them
    projector: str | None = None  # the URL of its repo's projector
