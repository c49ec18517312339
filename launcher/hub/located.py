"""A model that was found: its headers are here, its weights are wherever `files` says.

Opening (`local`, `url`, `repo`, `wheel`, `saved`) reads headers only and makes a `Located`; fetching turns
its `files` into local paths, each kind in the module that knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.model import ModelFile

OnProgress = Callable[[int, int], None]
"""Called while fetching with (bytes there so far, bytes in all), over all files of the model."""


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


Files = LocalFiles | UrlFiles | HubFiles | SavedHeaders


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """`raw_headers[i]` are shard i's first `headers[i].data_offset` bytes, as the file has them (what a hollow
    copy of the model begins with); `files` says how to get the weights."""

    model: ModelFile
    raw_headers: tuple[bytes, ...]
    files: Files
