"""What the local Hub knows: its repos, what was asked of it, and what shall go wrong. It serves nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, with the requests it hits: of `where` ("api", "resolve", "storage"), of
    `method` (None: any), whose path contains `match`, after `skip` of them, `times` times (None: for
    good).
    """

    where: str = "storage"
    method: str | None = None
    match: str = ""
    skip: int = 0
    times: int | None = None

    hang_up: bool = False  # close the connection without an answer
    redirect_to: str | None = None  # send elsewhere instead of an answer
    body: bytes | None = None  # this body, with status 200, instead of an answer
    headers: tuple[tuple[str, str], ...] = ()  # of `body`; a Content-Length here is not checked
    repeat: int = 1  # send `body` so often, or without end (0) until the client leaves
    head_bytes_per_s: int | None = None  # send headers without end, no faster than this
    status: int | None = None  # this status instead of an answer
    retry_after: str | None = None  # with `status`: the header
    ignore_range: bool = False  # 200 and the whole file for a ranged request
    drop_after: int | None = None  # close the connection after so many bytes of the body
    reset: bool = False  # with `drop_after`: by RST instead of FIN
    truncate_to: int | None = None  # a body of so many bytes, and a Content-Length that agrees
    length_off: int = 0  # a Content-Length that is so much more, or less, than what is sent
    flip_at: int | None = None  # invert the byte at this offset of the file
    stall_after: int | None = None  # say nothing more after so many bytes of the body
    bytes_per_s: int | None = None  # no faster than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it arrived. `host` is "hub" or "storage"."""

    host: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """`sha256` is what the Hub claims; `lfs` files are redirected to the storage host."""

    name: str
    content: bytes | Path
    size: int
    sha256: str
    git_oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(slots=True, kw_only=True)
class Repo:
    """Settings of one repo; `gated` and `private` ones ask for the Hub's `token`."""

    name: str
    commits: dict[str, dict[str, HubFile]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False  # listed for all, files for those who accepted the licence
    accepted: bool = False
    private: bool = False

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class HubState:
    """Everything the handlers read. Settings may be changed while they run."""

    url = ""
    storage_url = ""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.token: str | None = None  # the valid one; None takes any
        self.page_size = 1000  # entries of a tree page, as the real Hub
        self.uses_of_a_link: int | None = None  # a signed link is refused after so many requests
        self.on_request: Callable[[Seen], None] = lambda _: None  # called before each answer, in its thread
        self.released = threading.Event()  # set it to let stalled answers go on
        self.crashes: list[BaseException] = []
        self._hits: dict[int, int] = {}
        self._links: dict[str, int] = {}
        self._link_ids = itertools.count(1)
        self._lock = threading.Lock()

    def publish(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        branch: str = "main",
        claimed_sha256: Mapping[str, str] | None = None,
    ) -> str:
        """Make a commit of exactly these files and move `branch` to it. GGUF files are LFS files."""
        repo = self.repos.setdefault(name, Repo(name=name))
        entries = {file: make_file(file, content, claimed_sha256) for file, content in files.items()}
        listing = json.dumps([[file.name, file.sha256] for file in entries.values()] + [len(repo.commits)])
        commit = hashlib.sha1(listing.encode()).hexdigest()
        repo.commits[commit] = entries
        repo.branches[branch] = commit
        return commit

    def expire_links(self) -> None:
        """Every signed link given out so far is refused from now on."""
        with self._lock:
            self._links = dict.fromkeys(self._links, 0)

    def asked(self, host: str, method: str | None = None, match: str = "") -> list[Seen]:
        return [
            seen
            for seen in self.seen
            if seen.host == host and method in {None, seen.method} and match in seen.path
        ]

    def sign(self, file: HubFile) -> str:
        with self._lock:
            link = f"link{next(self._link_ids)}"
            self._links[link] = -1 if self.uses_of_a_link is None else self.uses_of_a_link
        return f"{self.storage_url}/{file.sha256}?name={quote(file.name, safe='')}&sig={link}"

    @property
    def links_given(self) -> int:
        """How many signed links there have been; they end in `sig=link1`, `sig=link2` and so on."""
        return len(self._links)

    def use_link(self, link: str) -> bool:
        with self._lock:
            left = self._links.get(link, 0)
            self._links[link] = left - 1 if left > 0 else left
        return left != 0

    def fault_for(self, where: str, method: str, path: str) -> Fault:
        """The first fault that this request runs into; one without effect if there is none."""
        with self._lock:
            for fault in self.faults:
                if fault.where != where or fault.method not in {None, method} or fault.match not in path:
                    continue
                hits = self._hits[id(fault)] = self._hits.get(id(fault), 0) + 1
                if fault.skip < hits and (fault.times is None or hits <= fault.skip + fault.times):
                    return fault
        return Fault()

    def find_content(self, sha256: str, name: str) -> HubFile | None:
        for repo in self.repos.values():
            for files in repo.commits.values():
                if name in files and files[name].sha256 == sha256:
                    return files[name]
        return None


def make_file(name: str, content: bytes | Path, claimed: Mapping[str, str] | None = None) -> HubFile:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    sha1 = hashlib.sha1(f"blob {size}\0".encode())
    sha256 = hashlib.sha256()
    for chunk in read_content(content, 0, size):
        sha1.update(chunk)
        sha256.update(chunk)
    return HubFile(
        name=name,
        content=content,
        size=size,
        sha256=(claimed or {}).get(name, sha256.hexdigest()),
        git_oid=sha1.hexdigest(),
        lfs=name.endswith(".gguf"),
    )


def read_content(content: bytes | Path, start: int, end: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for at in range(start, end, _CHUNK):
            yield content[at : min(at + _CHUNK, end)]
        return
    with content.open("rb") as file:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk
