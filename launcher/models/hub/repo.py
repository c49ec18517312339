"""A repo of the Hub: which commit a branch is at, which GGUF files it has, what their headers say.

Listing and auth are huggingface_hub's; headers are read by ranged requests of each shard's resolve URL at the
pinned commit, or from the Hub's cache where the file is there already. No weights move here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from launcher.errors import NotFound, TryAgain
from launcher.gguf.file_names import FileGroup, group_files, is_model_file, pick_group
from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import Shard
from launcher.models.hub.cache import cached_file, repo_cache
from launcher.models.hub.endpoint import Endpoint, explained, not_cached, open_session
from launcher.models.local import FileSource
from launcher.models.located import HubFiles, Located
from launcher.models.ranged_headers import assemble, read_header
from launcher.models.refs import ModelRef, safe_file_name
from launcher.models.store import HubStore, Listing

_BRANCH = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_MOST_FILES = 20_000  # the largest GGUF repos known have 1,148 shards in each of some quants (Thireus)
_READERS = 4  # headers are a few round trips each; more would only queue at the Hub's rate limit
_SHOWN_QUANTS = 12


def _shown(groups: tuple[FileGroup, ...]) -> str:
    labels = list(dict.fromkeys(group.label for group in groups))
    return ", ".join(labels[:_SHOWN_QUANTS]) + (", …" if len(labels) > _SHOWN_QUANTS else "")


def open_repo(ref: ModelRef, *, endpoint: Endpoint, store: HubStore) -> Located:
    """The model that `ref` names; without a quant or file, the one llama.cpp's `-hf` would take."""
    listing = list_repo(ref, endpoint=endpoint, store=store)
    return open_group(listing, pick_files(listing, ref), endpoint=endpoint, store=store)


def list_repo(ref: ModelRef, *, endpoint: Endpoint, store: HubStore) -> Listing:
    """The GGUF files of `ref.name` at the commit its revision is at now.

    One request when that commit was listed before, none when `ref.revision` is a commit. Where the Hub cannot
    be reached, the commit that the Hub's cache knows by that name answers, as with `hf` and llama.cpp.
    Raises NotFound, NotAllowed, TryAgain.
    """
    revision = ref.revision or _BRANCH
    named = None if _COMMIT.fullmatch(revision) else revision
    if endpoint.offline:
        cached = _list_cached(ref.name, revision, endpoint, store)
        if cached is None:
            raise not_cached(endpoint, f"{ref.revision} of {ref.name}" if ref.revision else ref.name)
        return cached
    try:
        listing = None if named else store.listing(ref.name, revision)
        if listing is None:
            # A commit is looked up too: the listing alone is tried for half a minute where there is no network.
            commit = resolve_commit(ref.name, revision, endpoint)
            listing = store.listing(ref.name, commit) or _list_remote(ref.name, commit, endpoint)
    except TryAgain:
        cached = _list_cached(ref.name, revision, endpoint, store)
        if cached is None:
            raise
        return cached
    store.keep_listing(listing)
    return replace(listing, revision=named)


def resolve_commit(repo: str, revision: str, endpoint: Endpoint) -> str:
    """The commit that `revision` is at: one request, not retried."""
    open_session(endpoint)
    api = HfApi(endpoint=endpoint.url, token=endpoint.library_token)
    with explained(endpoint, repo, "" if revision == _BRANCH else revision):
        commit = api.model_info(repo, revision=revision, timeout=endpoint.patience_s).sha
        if commit is None or _COMMIT.fullmatch(commit) is None:
            raise ValueError(f"a commit {commit!r}")
    return commit


def list_quants(listing: Listing) -> tuple[FileGroup, ...]:
    """What can be chosen from, by size."""
    return group_files((file.name, file.size_bytes) for file in listing.files)


def pick_files(listing: Listing, ref: ModelRef) -> FileGroup:
    """The complete group of files that `ref.file` or `ref.quant` (a label, or a folder of the repo) names; a file that is
    loaded beside a model (a projector, a draft head) by its whole name.

    Raises NotFound, listing the nearest quants, UsageError where several fit equally.
    """
    beside = next((file for file in listing.files if file.name == ref.file), None)
    if beside is not None and not is_model_file(beside.name):
        return FileGroup(label=beside.name, files=((beside.name, beside.size_bytes),))
    if ref.file is not None and not is_model_file(ref.file):
        raise _lacks_beside(listing, ref.file)
    groups = list_quants(listing)
    if not groups:
        raise NotFound(
            f"{listing.repo} has no GGUF model at {listing.commit[:8]}",
            hint=f"look for a repo named {listing.repo.partition('/')[2]}-GGUF",
        )
    wanted = ref.file or ref.quant
    inside = [
        group for group in groups if wanted and all(name.startswith(f"{wanted}/") for name in group.names)
    ]
    found = inside[0] if len(inside) == 1 else pick_group(inside or groups, None if inside else wanted)
    if found is None and wanted is None:
        raise NotFound(
            f"{listing.repo} has {len(groups)} quants and none of them is the usual one",
            hint=f"name one of {_shown(groups)}, as {listing.repo}:{groups[0].label}",
        )
    if found is None:
        near = difflib.get_close_matches(
            (wanted or "").upper(), [group.label.upper() for group in groups], n=3
        )
        there = f"the nearest are {', '.join(near)}" if near else f"it has {_shown(groups)}"
        raise NotFound(
            f"{listing.repo} has no {wanted}",
            hint=f"{there}: name one as {listing.repo}:{near[0] if near else groups[0].label}",
        )
    if not found.is_complete:
        raise NotFound(
            f"{found.label} of {listing.repo} lacks {len(found.missing)} of its shards: {found.missing[0]}",
            hint=f"choose another quant of {_shown(groups)}, as {listing.repo}:QUANT",
        )
    return found


def _lacks_beside(listing: Listing, name: str) -> NotFound:
    there = [file.name for file in listing.files if not is_model_file(file.name)]
    return NotFound(
        f"{listing.repo} has no {name}",
        hint=f"of such files it has {', '.join(there)}: name one by its whole name"
        if there
        else f"{listing.repo} has none of such files: name one of another repo, or its path",
    )


def open_group(listing: Listing, group: FileGroup, *, endpoint: Endpoint, store: HubStore) -> Located:
    """Read the headers of all files of one group, in parallel. Raises BadGguf, TryAgain, NotAllowed."""
    known = {file.name: file for file in listing.files}
    shards = tuple(known[name] for name in group.names)
    files = HubFiles(repo=listing.repo, commit=listing.commit, names=group.names, revision=listing.revision)

    def read(shard: Shard) -> tuple[Header, bytes]:
        return _read_header(files, shard, endpoint, store)

    open_session(endpoint)
    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="header") as pool:
        headers = tuple(pool.map(read, shards))
    return assemble(
        model_id=f"{listing.repo}:{group.label}",
        source=f"hub:{listing.repo}@{listing.commit}",
        shards=shards,
        read=headers,
        files=files,
    )


def _list_remote(repo: str, commit: str, endpoint: Endpoint) -> Listing:
    api = HfApi(endpoint=endpoint.url, token=endpoint.library_token)
    open_session(endpoint)
    with explained(endpoint, repo):
        tree = api.list_repo_tree(repo, revision=commit, recursive=True)
        entries = list(islice(tree, _MOST_FILES + 1))
        if len(entries) > _MOST_FILES:
            raise ValueError(f"more than {_MOST_FILES} files")
        files = tuple(_shard_of(entry) for entry in entries if isinstance(entry, RepoFile))
    return Listing(repo=repo, commit=commit, revision=None, files=_usable(files))


def _shard_of(entry: RepoFile) -> Shard:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    if not isinstance(entry.size, int) or entry.size < 0 or not isinstance(entry.path, str):
        raise ValueError(f"a file {entry.path!r} of size {entry.size!r}")
    if sha256 is not None and _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"a sha256 {sha256!r}")
    return Shard(name=entry.path, size_bytes=entry.size, sha256=sha256)


def _usable(files: Iterable[Shard]) -> tuple[Shard, ...]:
    """GGUF files whose names may become paths; the others cannot be named, so they cannot be fetched."""
    return tuple(
        file for file in files if file.name.lower().endswith(".gguf") and safe_file_name(file.name) is None
    )


def _list_cached(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> Listing | None:
    """What the Hub's cache has of `revision`, with the hashes that its blobs are named by; where it knows no such branch,
    what was put into a plain folder."""
    folder = repo_cache(endpoint, repo)
    named = None if _COMMIT.fullmatch(revision) else revision
    try:
        commit = revision if named is None else _commit_here(repo, revision, endpoint, store)
        snapshot = folder / "snapshots" / commit
        if _COMMIT.fullmatch(commit) is None:
            return None
        listed = store.listing(repo, commit)
        if listed is not None:
            return replace(listed, revision=named)
        found = [(path, path.relative_to(snapshot).as_posix()) for path in snapshot.rglob("*.gguf")]
        files = [
            Shard(
                name=name,
                size_bytes=path.stat().st_size,
                sha256=path.resolve().name if _SHA256.fullmatch(path.resolve().name) else None,
            )
            for path, name in sorted(found)
        ]
    except OSError:
        return None
    return Listing(repo=repo, commit=commit, revision=named, files=_usable(files)) if files else None


def _commit_here(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> str:
    """Raises OSError where neither the Hub's cache nor the store knows the branch."""
    try:
        return (repo_cache(endpoint, repo) / "refs" / revision).read_text().strip()
    except OSError:
        commit = store.branch(repo, revision)
        if commit is None:
            raise
        return commit


def _read_header(files: HubFiles, shard: Shard, endpoint: Endpoint, store: HubStore) -> tuple[Header, bytes]:
    kept = store.header(files.repo, files.commit, shard.name, shard.size_bytes)
    if kept is not None:
        header = parse_header(kept)
        if isinstance(header, Header):
            return header, kept
    path = cached_file(endpoint, files, shard)
    if path is not None:
        return read_header(FileSource(path, shard.size_bytes))
    if endpoint.offline:
        raise not_cached(endpoint, f"{shard.name} of {files.repo}")
    found = read_header(_RemoteFile(endpoint=endpoint, files=files, shard=shard))
    store.keep_header(files.repo, files.commit, shard.name, shard.size_bytes, found[1])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _RemoteFile:
    """A shard on the Hub, as bytes to be read in ranges."""

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
        """Exactly the bytes [offset, offset + length), fewer only at the end of the file. Raises TryAgain."""
        end = min(offset + length, self.size_bytes)
        if end <= offset:
            return b""
        endpoint, files = self.endpoint, self.files
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
        """How many bytes before `offset` the answer begins: a server that ignores ranges begins at 0.

        Raises TryAgain where the answer is about another range, or a file of another size, than listed.
        """
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            begin, total = (int(match[1]), int(match[2])) if match else (offset, self.size_bytes)
        else:
            length = response.headers.get("Content-Length", "")
            begin, total = 0, int(length) if length.isdigit() else self.size_bytes
        if total != self.size_bytes or begin not in {0, offset}:
            raise TryAgain(
                f"{self.name} has {total} bytes where it lies and {self.size_bytes} in the listing",
                hint="run it again; if it stays so, the mirror in HF_ENDPOINT is damaged",
            )
        return offset - begin
