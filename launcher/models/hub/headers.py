"""Read the headers of a repo's files: from the store, the Hub's cache, or by ranged requests."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

import httpx2
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from launcher.errors import TryAgain
from launcher.gguf.file_names import FileGroup
from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import Shard
from launcher.models.hub.cache import cached_file
from launcher.models.hub.endpoint import Endpoint, explained, not_cached, open_session
from launcher.models.local import FileSource
from launcher.models.located import HubFiles, Located
from launcher.models.ranged_headers import assemble, read_header
from launcher.models.store import HubStore, Listing

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_READERS = 4  # headers are a few round trips each; more would only queue at the Hub's rate limit


def open_group(listing: Listing, group: FileGroup, *, endpoint: Endpoint, store: HubStore) -> Located:
    """Read the headers of all files of a group, in parallel. Raises BadGguf, TryAgain, NotAllowed."""
    known = {file.name: file for file in listing.files}
    shards = tuple(known[name] for name in group.names)
    files = HubFiles(repo=listing.repo, commit=listing.commit, names=group.names, revision=listing.revision)

    def read(shard: Shard) -> tuple[Header, bytes]:
        return _read_header(files, shard, endpoint, store)

    if not endpoint.offline:
        open_session(endpoint)  # once, before the threads
    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="header") as pool:
        headers = tuple(pool.map(read, shards))
    return assemble(
        model_id=f"{listing.repo}:{group.label}",
        source=f"hub:{listing.repo}@{listing.commit}",
        shards=shards,
        read=headers,
        files=files,
    )


def _read_header(files: HubFiles, shard: Shard, endpoint: Endpoint, store: HubStore) -> tuple[Header, bytes]:
    stored = store.header(files.repo, files.commit, shard.name, shard.size_bytes)
    if stored is not None:
        header = parse_header(stored)
        if isinstance(header, Header):
            return header, stored
    path = cached_file(endpoint, files, shard)
    if path is not None:
        return read_header(FileSource(path, shard.size_bytes))
    if endpoint.offline:
        raise not_cached(endpoint, f"{shard.name} of {files.repo}")
    remote = read_header(_RemoteFile(endpoint=endpoint, files=files, shard=shard))
    store.keep_header(files.repo, files.commit, shard.name, shard.size_bytes, remote[1])
    return remote


@dataclass(frozen=True, slots=True, kw_only=True)
class _RemoteFile:
    """A `ByteSource` over a shard on the Hub."""

    endpoint: Endpoint
    files: HubFiles
    shard: Shard

    @property
    def name(self) -> str:
        return f"{self.shard.name} of {self.files.repo}"

    @property
    def size_bytes(self) -> int:
        return self.shard.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Read the bytes [offset, offset + length), fewer only at the file's end. Raises TryAgain."""
        end = min(offset + length, self.size_bytes)
        if end <= offset:
            return b""
        endpoint, files = self.endpoint, self.files
        # at the pinned commit, so that what was listed is what is read
        url = f"{endpoint.url}/{files.repo}/resolve/{files.commit}/{quote(self.shard.name)}"
        headers = endpoint.headers | {"Range": f"bytes={offset}-{end - 1}"}
        session = open_session(endpoint)
        with (
            explained(endpoint, files.repo, self.shard.name),
            session.stream("GET", url, headers=headers, timeout=endpoint.patience_s) as response,
        ):
            hf_raise_for_status(response)
            skip = self._begins_before(offset, response)
            data = bytearray()
            for chunk in response.iter_raw():
                data += chunk
                if len(data) >= skip + end - offset:
                    break
        if len(data) < skip + end - offset:
            raise TryAgain(f"{self.name} ended after {len(data)} bytes of a range", hint="run it again")
        return bytes(memoryview(data)[skip : skip + end - offset])

    def _begins_before(self, offset: int, response: httpx2.Response) -> int:
        """Return how many bytes before `offset` the answer begins.

        Raises TryAgain for another range, or a file of another size than listed.
        """
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            begin, total = (int(match[1]), int(match[2])) if match else (offset, self.size_bytes)
        else:  # the server ignores ranges and begins at the file's start
            length = response.headers.get("Content-Length", "")
            begin, total = 0, int(length) if length.isdigit() else self.size_bytes
        if total != self.size_bytes or begin not in {0, offset}:
            raise TryAgain(
                f"{self.name} has {total} bytes where it lies and {self.size_bytes} in the listing",
                hint="run it again; if it stays so, the mirror in HF_ENDPOINT is damaged",
            )
        return offset - begin
