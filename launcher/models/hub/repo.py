"""The commit a branch of a Hub repo is at, and its GGUF files there."""

from __future__ import annotations

from dataclasses import replace

from launcher.errors import TryAgain
from launcher.gguf.model import Shard
from launcher.models.hub.api import ask_commit, ask_files
from launcher.models.hub.api_json import COMMIT, SHA256
from launcher.models.hub.cache import repo_cache
from launcher.models.hub.endpoint import Endpoint, not_cached
from launcher.models.hub.headers import open_group
from launcher.models.hub.quants import pick_files
from launcher.models.located import Located
from launcher.models.refs import ModelRef, safe_file_name
from launcher.models.store import HubStore, Listing
from launcher.system.small_files import read_small

_BRANCH = "main"


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
    named = None if COMMIT.fullmatch(revision) else revision
    if endpoint.offline:
        cached = _list_cached(ref.name, revision, endpoint, store)
        if cached is None:
            raise not_cached(endpoint, f"{ref.revision} of {ref.name}" if ref.revision else ref.name)
        return cached
    try:
        listing = None if named else store.listing(ref.name, revision)
        if listing is None:
            commit = ask_commit(ref.name, revision, endpoint)
            listing = store.listing(ref.name, commit) or _list_remote(ref.name, commit, endpoint)
    except TryAgain:
        # the Hub's cache knows a commit by that name: as with `hf` and llama.cpp
        cached = _list_cached(ref.name, revision, endpoint, store)
        if cached is None:
            raise
        return cached
    store.keep_listing(listing)
    return replace(listing, revision=named)


def _list_remote(repo: str, commit: str, endpoint: Endpoint) -> Listing:
    return Listing(repo=repo, commit=commit, revision=None, files=ask_files(repo, commit, endpoint))


def _list_cached(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> Listing | None:
    """List what the Hub's cache has of `revision`, or what was put into a plain folder."""
    folder = repo_cache(endpoint, repo)
    named = None if COMMIT.fullmatch(revision) else revision
    try:
        commit = revision if named is None else _commit_here(repo, revision, endpoint, store)
        snapshot = folder / "snapshots" / commit
        if COMMIT.fullmatch(commit) is None:
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
                sha256=path.resolve().name if SHA256.fullmatch(path.resolve().name) else None,
            )
            for path, name in sorted(paths)
        ]
    except OSError:
        return None
    usable = tuple(file for file in files if safe_file_name(file.name) is None)
    return Listing(repo=repo, commit=commit, revision=named, files=usable) if files else None


def _commit_here(repo: str, revision: str, endpoint: Endpoint, store: HubStore) -> str:
    """Return the commit of a branch without asking the Hub. Raises OSError if none is known."""
    try:
        return read_small(repo_cache(endpoint, repo) / "refs" / revision).decode(errors="replace").strip()
    except OSError:
        commit = store.branch(repo, revision)
        if commit is None:
            raise
        return commit
