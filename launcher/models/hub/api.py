"""Ask the Hub's API: the commit that a revision is at, the files there, and repos by a query."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from launcher.errors import TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.models.hub.api_json import GGUF, FoundRepo, parse_commit, parse_page, parse_search
from launcher.models.hub.endpoint import Endpoint, not_cached
from launcher.models.hub.failures import why_not_read
from launcher.models.refs import safe_file_name
from launcher.system.json_object import parse_json
from launcher.system.network.connection import origin_of
from launcher.system.network.reader import Reader
from launcher.system.network.request import Resource, why_forbidden
from launcher.system.network.trouble import Trouble
from launcher.units import MIB

T = TypeVar("T")

# A page of 1,000 files is 0.4 MB, the names of 20,000 files 1.5. Python makes twenty times as much of the
# worst JSON.
_MOST_BYTES = 4 * MIB
_MOST_PAGES = 100
_MOST_ENTRIES = 20_000  # the largest GGUF repos known have 1,148 shards in each of some quants (Thireus)


def ask_commit(repo: str, revision: str, endpoint: Endpoint) -> str:
    """Return the commit that `revision` of `repo` is at. Raises NotFound, NotAllowed, TryAgain."""
    url = f"{_base(endpoint, repo)}/revision/{quote(revision, safe='')}"
    explain = partial(why_not_read, endpoint=endpoint, repo=repo, what="" if revision == "main" else revision)
    with Reader(endpoint.policy) as reader:
        commit = _read(reader, url, endpoint, lambda body, _: parse_commit(body))
    if isinstance(commit, Trouble):
        raise explain(commit)
    return commit


def ask_files(repo: str, commit: str, endpoint: Endpoint, suffix: str = GGUF) -> tuple[Shard, ...]:
    """Return the files of a commit with that ending. Raises NotFound, NotAllowed, TryAgain."""
    url = f"{_base(endpoint, repo)}/tree/{commit}?recursive=true&expand=false"
    files: dict[str, Shard] = {}
    n_entries = 0
    with Reader(endpoint.policy) as reader:
        for _ in range(_MOST_PAGES):
            page = _read(reader, url, endpoint, partial(parse_page, suffix=suffix))
            if isinstance(page, Trouble):
                raise why_not_read(page, endpoint=endpoint, repo=repo)
            # names that may become paths: a file with another cannot be named
            files |= {file.name: file for file in page.files if safe_file_name(file.name) is None}
            n_entries += page.n_entries
            if n_entries > _MOST_ENTRIES:
                raise _endless(endpoint, repo, f"{_MOST_ENTRIES} files")
            if page.next_url is None:
                return tuple(files.values())
            url = _next_page(url, page.next_url, endpoint, repo)
    raise _endless(endpoint, repo, f"{_MOST_PAGES} pages")


def ask_json(repo: str, commit: str, name: str, most_bytes: int, endpoint: Endpoint) -> object:
    """Return a JSON file of a commit. Raises as `ask_files`."""
    if endpoint.offline:
        raise not_cached(endpoint, f"{repo}/{name}")
    resource = Resource(
        url=f"{endpoint.url}/{repo}/resolve/{commit}/{quote(name)}", headers=endpoint.authorization
    )
    with Reader(endpoint.policy) as reader:
        found = reader.read(resource, most_bytes=most_bytes, parse=lambda body, _: (parse_json(body),))
    if isinstance(found, Trouble):
        raise why_not_read(found, endpoint=endpoint, repo=repo, what=name)
    return found[0]


def ask_search(query: str, most: int, endpoint: Endpoint) -> tuple[FoundRepo, ...]:
    """Return repos with GGUF files that a query finds, the most downloaded first. Raises as `ask_commit`."""
    terms = urlencode(
        {"search": query, "filter": "gguf", "sort": "downloads", "direction": -1, "limit": most}
    )
    url = f"{_models(endpoint, query)}?{terms}"
    with Reader(endpoint.policy) as reader:
        found = _read(reader, url, endpoint, lambda body, _: parse_search(body))
    if isinstance(found, Trouble):
        raise why_not_read(found, endpoint=endpoint, repo=f"the search for {query!r}")
    return found[:most]


def _read(reader: Reader, url: str, endpoint: Endpoint, parse: Callable[[bytes, str], T]) -> T | Trouble:
    # the token stays at the endpoint, wherever the next page is said to be
    at_home = origin_of(url) == origin_of(endpoint.url)
    resource = Resource(url=url, headers=endpoint.authorization if at_home else ())
    return reader.read(resource, most_bytes=_MOST_BYTES, parse=parse)


def _base(endpoint: Endpoint, repo: str) -> str:
    return f"{_models(endpoint, repo)}/{repo}"


def _models(endpoint: Endpoint, asked: str) -> str:
    if endpoint.offline:
        raise not_cached(endpoint, asked)
    try:
        parts = urlsplit(endpoint.url)
        wrong = None if parts.scheme in {"http", "https"} and parts.hostname else "it names no web server"
        _ = parts.port
    except ValueError as error:
        wrong = str(error)
    if wrong is not None:
        raise UsageError(
            f"{endpoint.url} is not the address of a Hub: {wrong}", hint="set HF_ENDPOINT=https://…"
        )
    return f"{endpoint.url}/api/models"


def _next_page(url: str, link: str, endpoint: Endpoint, repo: str) -> str:
    try:
        target = urljoin(url, link)
        origin_of(target)
        forbidden = why_forbidden(url, target)
    except ValueError:
        forbidden = "it redirects to an address that cannot be used"
    if forbidden is not None:
        raise TryAgain(
            f"{endpoint.host} lists {repo} in pages that cannot be followed: {forbidden}",
            hint="check HF_ENDPOINT, then run it again",
        )
    return target


def _endless(endpoint: Endpoint, repo: str, limit: str) -> TryAgain:
    return TryAgain(
        f"{endpoint.host} lists more than {limit} in {repo}",
        hint="check HF_ENDPOINT, or name a file by its URL",
    )
