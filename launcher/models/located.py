"""A model that was found: its headers are here, its weights are wherever `files` says.

Opening (`local`, `url`, `repo`, `wheel`, `saved`) reads headers only and makes a `Located`; fetching turns
its `files` into local paths, each kind in the module that knows it.
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
    """How files are brought here. `folder`: a plain folder instead of the store. `look_in`: folders whose files may
    be used, beside the stores that are known. `verify`: hash again what was found right before.
    `tuning` None: for the cores that this process may use. `again`: the command that goes on, for the hints of errors;
    empty where it is not known. `later`: what is fetched after these files, which the disk is asked for too."""

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
    """Files of a hub repo at one commit, by their names inside the repo, in shard order. `revision` is the
    branch or tag that named the commit, None where the commit itself was given."""

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
    """Headers made from a profile's published architecture because the files could not be looked at; `cause` says
    why. Enough to plan with. `file` is what the first of them is called, or stands for it."""

    repo: str
    file: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredFiles:
    """Files that are not here and that nobody was asked about, because a profile ships their headers; `locate` asks."""

    locate: Callable[[OnProgress], Located]


Files = LocalFiles | UrlFiles | HubFiles | SavedHeaders | UnreachableFiles | DeferredFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """`raw_headers[i]` are shard i's first `headers[i].data_offset` bytes, as the file has them (what a hollow
    copy of the model begins with); `files` says how to get the weights. `notes` is what a plan made from these
    headers must say about them."""

    model: ModelFile
    raw_headers: tuple[bytes, ...]
    files: Files
    notes: tuple[str, ...] = ()
