"""What the Hub's API answers, as JSON from a server that may be anything. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeGuard

from launcher.gguf.model import Shard
from launcher.system.json_object import Malformed, parse_json

GGUF = ".gguf"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_NEXT = re.compile(r'<([^<>]{1,4096})>; ?rel="next"')
_MOST_BYTES = 1 << 63  # off_t


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePage:
    """A page of a repo's listing."""

    files: tuple[Shard, ...]  # those asked for, by names that may be anything
    n_entries: int  # of any kind
    next_url: str | None  # the address of the next page


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRepo:
    """A repo that a search found."""

    name: str  # user/repo
    downloads: int  # in the last month, as the Hub counts
    is_gated: bool


def parse_search(body: bytes) -> tuple[FoundRepo, ...]:
    """Return the repos of a search's answer; what is no user/repo is left out. Raises Malformed."""
    entries = parse_json(body)
    if not isinstance(entries, list):
        raise Malformed("a search's answer that is no list")
    return tuple(repo for entry in entries if (repo := _found(entry)) is not None)


def _found(entry: object) -> FoundRepo | None:
    if not isinstance(entry, dict):
        raise Malformed(f"an entry {_short(entry)}")
    name, downloads = entry.get("id"), entry.get("downloads")
    if not isinstance(name, str) or _REPO.fullmatch(name) is None:
        return None
    return FoundRepo(
        name=name,
        downloads=downloads if _is_whole(downloads) else 0,
        is_gated=bool(entry.get("gated", False)),
    )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_BYTES


def parse_commit(body: bytes) -> str:
    """Return the commit that a model's page names. Raises Malformed."""
    match parse_json(body):
        case {"sha": str() as commit} if COMMIT.fullmatch(commit):
            return commit
        case {"sha": commit}:
            raise Malformed(f"a commit {_short(commit)}")
    raise Malformed("a model without a commit")


def parse_page(body: bytes, link: str, suffix: str = GGUF) -> TreePage:
    """Return the files of a listing's page with that ending; `link` is its Link header. Raises Malformed."""
    entries = parse_json(body)
    if not isinstance(entries, list):
        raise Malformed("a listing that is no list")
    found = _NEXT.search(link)
    return TreePage(
        files=tuple(shard for entry in entries if (shard := _shard(entry, suffix)) is not None),
        n_entries=len(entries),
        next_url=found[1] if found else None,
    )


def _shard(entry: object, suffix: str) -> Shard | None:
    """Return the entry's file; None for what ends otherwise."""
    if not isinstance(entry, dict):
        raise Malformed(f"an entry {_short(entry)}")
    if entry.get("type") != "file":
        return None
    path, size, lfs = entry.get("path"), entry.get("size"), entry.get("lfs")
    if not isinstance(path, str):
        raise Malformed(f"a file {_short(path)}")
    if not path.lower().endswith(suffix):
        return None
    if not _is_whole(size):
        raise Malformed(f"a file of size {_short(size)}")
    if lfs is None:
        return Shard(name=path, size_bytes=size)
    sha256 = lfs.get("oid") if isinstance(lfs, dict) else None
    if not isinstance(sha256, str) or SHA256.fullmatch(sha256) is None:
        raise Malformed(f"a sha256 {_short(sha256)}")
    return Shard(name=path, size_bytes=size, sha256=sha256)


def _short(value: object) -> str:
    """Return a few words of any value."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int) and abs(value) < 1 << 128:
        return str(value)
    return f"that is a {type(value).__name__}"
