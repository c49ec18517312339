"""Open models behind plain http(s) URLs, by ranged reads of their headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.gguf.file_names import model_name, shard_name
from launcher.gguf.header import Header
from launcher.gguf.model import Shard
from launcher.models.located import Located, UrlFiles
from launcher.models.ranged_headers import assemble, read_header
from launcher.models.refs import safe_file_name
from launcher.models.url_secrets import strip_secrets
from launcher.system.certificates import AUTHORITY_HINT, trusted_certificates, why_distrusted

_PATIENCE_S = 20.0  # for each connect and each silence between two reads, not for a whole transfer
_AT_ONCE = 8  # shards whose headers are read side by side: one round trip each
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<size>\d+)")


def _open_client() -> httpx2.Client:
    # No token is sent. What the URL itself carries (user:password@, a signed query) is used, and never shown.
    return httpx2.Client(
        # Identity: a range counts the file's own bytes.
        headers={"Accept-Encoding": "identity", "User-Agent": "gguf-launcher"},
        follow_redirects=True,
        timeout=_PATIENCE_S,
        verify=trusted_certificates(),
    )


def open_url(url: str) -> Located:
    """Open a model from the URL of a .gguf file, or of any of its shards.

    Raises NotFound, NotAllowed, TryAgain or UsageError as the server answers, BadGguf if it is no model.
    """
    urls = shard_urls(url)
    names = tuple(file_name(url) for url in urls)
    read = _read_all(urls)
    shards = tuple(Shard(name=name, size_bytes=size) for name, (_, size) in zip(names, read, strict=True))
    return assemble(
        model_id=model_name(shards[0].name),
        source=strip_secrets(urls[0]),
        shards=shards,
        read=tuple(header for header, _ in read),
        files=UrlFiles(urls=urls),
    )


def shard_urls(url: str) -> tuple[str, ...]:
    """Return the URLs of all shards, in order."""
    parts = urlsplit(url)
    folder, slash, name = parts.path.rpartition("/")
    shard = shard_name(name)
    if shard is None:
        return (url,)
    return tuple(urlunsplit(parts._replace(path=folder + slash + name)) for name in shard.all_names)


def file_name(url: str) -> str:
    """Return the file's own name. Raises UsageError if it could not be a file here."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    wrong = safe_file_name(name)
    if wrong is not None:
        raise UsageError(
            f"the file name in {strip_secrets(url)} {wrong}", hint="give the .gguf file's own URL"
        )
    return name


def _read_all(urls: tuple[str, ...]) -> tuple[tuple[tuple[Header, bytes], int], ...]:
    # The first failure ends it, without waiting for the others.
    pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="header")
    with _open_client() as client:
        try:
            return tuple(pool.map(lambda url: _read_one(client, url), urls))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_one(client: httpx2.Client, url: str) -> tuple[tuple[Header, bytes], int]:
    source = _UrlSource(client, url)
    header = read_header(source)
    if source.size_bytes is None:
        raise TryAgain(f"{source.name} was read without its size", hint="run it again")
    return header, source.size_bytes


class _UrlSource:
    """A `ByteSource` over ranged GETs."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self._url = url
        self._version: str | None = None
        self.name = strip_secrets(url)
        self.size_bytes: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        with _request_range(self._client, self._url, offset, offset + length - 1) as response:
            if response.status_code == 416:  # beyond the end: of an empty file, if nothing was read yet
                self.size_bytes = offset if self.size_bytes is None else self.size_bytes
                return b""
            first, size = _content_range(response, self.name)
            version = _version_of(response)
            # all answers must agree on size and version
            if first != offset or size != (size if self.size_bytes is None else self.size_bytes):
                raise _changed(self.name)
            if self._version not in {None, version}:
                raise _changed(self.name)
            self.size_bytes, self._version = size, version
            return _body(response, min(length, size - offset), self.name)


def _body(response: httpx2.Response, length: int, name: str) -> bytes:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) >= length:
            return bytes(body[:length])
    raise TryAgain(f"{name} broke off after {len(body)} of {length} bytes", hint="run it again")


def _changed(name: str) -> TryAgain:
    return TryAgain(f"{name} changed while it was read", hint="run it again")


@contextmanager
def _request_range(
    client: httpx2.Client, url: str, first: int, last: int | None = None
) -> Iterator[httpx2.Response]:
    """Stream the answer to a range request, 206 or 416; raise anything else."""
    wanted = f"bytes={first}-" if last is None else f"bytes={first}-{last}"
    try:
        with client.stream("GET", url, headers={"Range": wanted}) as response:
            if response.status_code not in {206, 416}:
                raise status_error(response.status_code, strip_secrets(url))
            yield response
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise UsageError(
            f"{strip_secrets(url)} is not an address that can be read: {error}",
            hint="give an https://….gguf URL",
        ) from error
    except httpx2.HTTPError as error:
        wrong = why_distrusted(error)
        if wrong is not None:
            raise UsageError(
                f"{strip_secrets(url)} cannot be read: its certificate is not trusted: {wrong}",
                hint=AUTHORITY_HINT,
            ) from error
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise TryAgain(
            f"{strip_secrets(url)} cannot be read: {reason}", hint="check the network, then run it again"
        ) from error


def status_error(status: int, name: str) -> LauncherError:
    """Return the error for an answer without the requested bytes."""
    if status in {401, 403}:
        return NotAllowed(
            f"{name} may not be read: the server answered {status}", hint="check the URL's rights"
        )
    if status in {404, 410}:
        return NotFound(f"there is no {name}: the server answered {status}", hint="check the URL")
    if status in {408, 425, 429} or status >= 500:
        return TryAgain(f"{name} is not there now: the server answered {status}", hint="run it again later")
    if status == 200:  # a model is never read whole for its header
        return UsageError(
            f"the server of {name} ignores ranges, and the header alone cannot be read",
            hint="download the file yourself and give its path",
        )
    return UsageError(f"{name} cannot be read: the server answered {status}", hint="check the URL")


def _content_range(response: httpx2.Response, name: str) -> tuple[int, int]:
    """Return first byte and whole size. Raises UsageError for a 206 that does not say."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None or response.headers.get("content-encoding", "identity") != "identity":
        raise UsageError(
            f"the server of {name} answers a range without saying which bytes these are",
            hint="download the file yourself and give its path",
        )
    return int(match["first"]), int(match["size"])


def _version_of(response: httpx2.Response) -> str:
    return response.headers.get("etag") or response.headers.get("last-modified") or ""
