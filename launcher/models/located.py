"""A model whose headers are here and whose weights are wherever `files` says.

Opening (`local`, `url`, `hub.repo`, `wheel`, `saved`) reads headers only and makes a `Located`. Fetching turns its
`files` into local paths, each kind in the module that knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.model import ModelFile, Shard
from launcher.models.transfer.tuning import Tuning
from launcher.progress import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How files are brought here.

    `folder` is a plain folder to use instead of the store. Files in `look_in` may be used, besides the stores that are
    known. `verify` hashes files again that were verified before. `tuning` None means: tuned for the cores this process
    may use. `again` is the command that continues the pull, for hints; empty if unknown. `later` lists files to
    be fetched after these; the disk must have space for them too.
    """

    folder: Path | None = None
    look_in: tuple[Path, ...] = ()
    verify: bool = False
    tuning: Tuning | None = None
    again: str = ""
    later: tuple[tuple[Shard, Path], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """Shards that are already on this machine, in shard order."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlFiles:
    """Shards behind plain http(s) URLs, in shard order."""

    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """Files of a Hub repo at one commit, by their names inside the repo, in shard order.

    `revision` is the branch or tag that named the commit, None if the commit itself was given.
    """

    repo: str
    commit: str
    names: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHeaders:
    """Headers that `inspect --save` kept: enough to plan with, no weights to run."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreachableFiles:
    """Files that could not be looked at; the headers were made from a profile's published architecture.

    Enough to plan with. `cause` says why; `file` is the name, or a placeholder, of the first shard.
    """

    repo: str
    file: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredFiles:
    """Files nobody has been asked about yet, because a profile ships their headers; `locate` asks."""

    locate: Callable[[OnProgress], Located]


Files = LocalFiles | UrlFiles | HubFiles | SavedHeaders | UnreachableFiles | DeferredFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A model whose headers are known, and where its weights are.

    `raw_headers[i]` are the first `headers[i].data_offset` bytes of shard i, as in the file (a hollow copy
    begins with them). A plan made from these headers must show `notes`.
    """

    model: ModelFile
    raw_headers: tuple[bytes, ...]
    files: Files
    notes: tuple[str, ...] = ()
