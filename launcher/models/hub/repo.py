"""The commit a branch of a Hub repo is at, and its GGUF files there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from launcher.errors import TryAgain
from launcher.gguf.model import Shard
from launcher.models.hub.cache import repo_cache
from launcher.models.hub.endpoint import Endpoint, explained, not_cached, open_session
from launcher.models.hub.headers import open_group
from launcher.models.hub.quants import pick_files
from launcher.models.located import Located
from launcher.models.refs import ModelRef, safe_file_name
from launcher.models.store import HubStore, Listing

_BRANCH = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_FILES = 20_000  # the largest GGUF repos known have 1,148 shards in each of some quants (Thireus)


def open_repo(ref: ModelRef, *, endpoint: Endpoint, store: HubStore) -> Located:
    """Read the headers of the model that `ref` names."""
    listing = list_repo(ref, endpoint=endpoint, store=store)
    return open_group(listing, pick_files(listing, ref), endpoint=endpoint, store=store)


def list_repo(ref: ModelRef, *, endpoint: Endpoint, store: HubStore) -> Listing:
    """List the GGUF files at the commit that the revision of `ref` is at now.

    Raises NotFound, NotAllowed, TryAgain.
    """
    # One request if that commit was listed before, none if `ref.revision` is a commit.
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
            # A commit is looked up too: without a network, listing alone would be retried for half a minute.
            commit = resolve_commit(ref.name, revision, endpoint)
            listing = store.listing(ref.name, commit) or _list_remote(ref.name, commit, endpoint)
    except TryAgain:
        # the Hub's cache knows a commit by that name: as with `hf` and llama.cpp
        cached = _list_cached(ref.name, revision, endpoint, store)
        if cached is None:
            raise
        return cached
    store.keep_listing(listing)
    return replace(listing, revision=named)


def resolve_commit(repo: str, revision: str, endpoint: Endpoint) -> str:
    """Return the commit that `revision` is at: one request, not retried."""
    api = HfApi(endpoint=endpoint.url, token=endpoint.library_token)
    with explained(endpoint, repo, "" if revision == _BRANCH else revision):
        open_session(endpoint)
        commit = api.model_info(repo, revision=revision, timeout=endpoint.patience_s).sha
        if commit is None or _COMMIT.fullmatch(commit) is None:
            raise ValueError(f"a commit {commit!r}")
    return commit


def _list_remote(repo: str, commit: str, endpoint: Endpoint) -> Listing:
    api = HfApi(endpoint=endpoint.url, token=endpoint.library_token)
    with explained(endpoint, repo):
        open_session(endpoint)
        tree = api.list_repo_tree(repo, revision=commit, recursive=True)
        entries = list(islice(tree, _MOST_FILES + 1))
        if len(entries) > _MOST_FILES:
            raise ValueError(f"more than {_MOST_FILES} files")
        files = tuple(_shard_of(entry) for entry in entries if isinstance(entry, RepoFile))
    return Listing(repo=repo, commit=commit, revision=None, files=_usable(files))


def _shard_of(entry: RepoFile) -> Shard:
    # checked although the library parsed it: a half-compatible mirror may have answered
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    if not isinstance(entry.size, int) or entry.size < 0 or not isinstance(entry.path, str):
        raise ValueError(f"a file {entry.path!r} of size {entry.size!r}")
    if sha256 is not None and _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"a sha256 {sha256!r}")
    return Shard(name=entry.path, size_bytes=entry.size, sha256=sha256)


def _usable(files: Iterable[Shard]) -> tuple[Shard, ...]:
    # names that may become paths; a file with another name is left out
    return tuple(
        file for file in files if file.name.lower().endswith(".gguf") and safe_file_name(file.name) is None
    )


def _list_cached(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> Listing | None:
    """List what the Hub's cache has of `revision`, or what was put into a plain folder."""
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
        paths = [(path, path.relative_to(snapshot).as_posix()) for path in snapshot.rglob("*.gguf")]
        files = [
            Shard(
                name=name,
                size_bytes=path.stat().st_size,
                # the cache names a blob by its sha256
                sha256=path.resolve().name if _SHA256.fullmatch(path.resolve().name) else None,
            )
            for path, name in sorted(paths)
        ]
    except OSError:
        return None
    return Listing(repo=repo, commit=commit, revision=named, files=_usable(files)) if files else None


def _commit_here(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> str:
    """Return the commit of a branch without asking the Hub. Raises OSError if none is known."""
    try:
        return (repo_cache(endpoint, repo) / "refs" / revision).read_text().strip()
    except OSError:
        commit = store.branch(repo, revision)
        if commit is None:
            raise
        return commit
