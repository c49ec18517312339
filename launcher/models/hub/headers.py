"""Read the headers of a repo's files: from the store, the Hub's cache, or by ranged requests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from urllib.parse import quote

from launcher.gguf.file_names import FileGroup
from launcher.gguf.header import Header
from launcher.gguf.model import Shard
from launcher.models.hub.cache import cached_file
from launcher.models.hub.endpoint import Endpoint, not_cached
from launcher.models.hub.failures import why_not_read
from launcher.models.hub.quants import draft_head_beside, projector_beside
from launcher.models.local import FileSource
from launcher.models.located import HubFiles, Located
from launcher.models.ranged_headers import HeldBytes, assemble, read_header, read_remote_header
from launcher.models.store import HubStore, Listing
from launcher.system.network.ranged_file import RangedFile
from launcher.system.network.reader import Reader
from launcher.system.network.request import Resource

_READERS = 4  # headers are a few round trips each; more would only queue at the Hub's rate limit


def open_group(listing: Listing, group: FileGroup, *, endpoint: Endpoint, store: HubStore) -> Located:
    """Read the headers of all files of a group, in parallel. Raises BadGguf, TryAgain, NotAllowed."""
    known = {file.name: file for file in listing.files}
    shards = tuple(known[name] for name in group.names)
    files = HubFiles(repo=listing.repo, commit=listing.commit, names=group.names, revision=listing.revision)

    with Reader(endpoint.policy) as reader:

        def read(shard: Shard) -> tuple[Header, bytes]:
            return _read_header(reader, files, shard, endpoint, store)

        headers = tuple(reader.side_by_side(read, shards, most=_READERS))
    located = assemble(
        model_id=f"{listing.repo}:{group.label}",
        source=f"hub:{listing.repo}@{listing.commit}",
        shards=shards,
        read=headers,
        files=files,
    )
    projector = projector_beside(listing, group)
    return replace(
        located,
        notes=(*located.notes, *draft_head_beside(listing, group)),
        # at this commit: nobody has to ask where the branch is now
        projector=projector and _url(endpoint, files, projector),
    )


def _read_header(
    reader: Reader, files: HubFiles, shard: Shard, endpoint: Endpoint, store: HubStore
) -> tuple[Header, bytes]:
    stored = store.header(files.repo, files.commit, shard.name, shard.size_bytes)
    if stored is not None:
        return read_header(HeldBytes(name=shard.name, content=stored, size_bytes=shard.size_bytes))
    path = cached_file(endpoint, files, shard)
    if path is not None:
        return read_header(FileSource(path, shard.size_bytes))
    if endpoint.offline:
        raise not_cached(endpoint, f"{shard.name} of {files.repo}")
    resource = Resource(url=_url(endpoint, files, shard.name), headers=endpoint.authorization)
    explain = partial(why_not_read, endpoint=endpoint, repo=files.repo, what=shard.name)
    name = f"{shard.name} of {files.repo}"
    remote = read_remote_header(RangedFile(reader, resource, name, explain, size_bytes=shard.size_bytes))
    store.keep_header(files.repo, files.commit, shard.name, shard.size_bytes, remote[1])
    return remote


def _url(endpoint: Endpoint, files: HubFiles, name: str) -> str:
    return f"{endpoint.url}/{files.repo}/resolve/{files.commit}/{quote(name)}"
