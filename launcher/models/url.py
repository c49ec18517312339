"""Open models behind plain http(s) URLs, by ranged reads of their headers."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote, urlsplit, urlunsplit

from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.gguf.file_names import model_name, shard_name
from launcher.gguf.header import Header
from launcher.gguf.model import Shard
from launcher.models.located import Located, UrlFiles
from launcher.models.ranged_headers import assemble, read_remote_header
from launcher.models.refs import safe_file_name
from launcher.models.url_secrets import strip_secrets
from launcher.system.certificates import AUTHORITY_HINT
from launcher.system.network.policy import LOOK_UP, Policy
from launcher.system.network.ranged_file import RangedFile
from launcher.system.network.reader import Reader
from launcher.system.network.request import Resource
from launcher.system.network.trouble import Trouble, TroubleKind

_AT_ONCE = 8  # shards whose headers are read side by side: one round trip each
_BY_PATH = "download the file yourself and give its path"


def open_url(url: str, policy: Policy = LOOK_UP) -> Located:
    """Open a model from the URL of a .gguf file, or of any of its shards.

    Raises NotFound, NotAllowed, TryAgain or UsageError as the server answers, BadGguf if it is no model.
    """
    _refuse_other_schemes(url)
    urls = shard_urls(url)
    names = tuple(file_name(url) for url in urls)
    read = _read_all(urls, policy)
    shards = tuple(Shard(name=name, size_bytes=size) for name, (_, size) in zip(names, read, strict=True))
    return assemble(
        model_id=model_name(shards[0].name),
        source=strip_secrets(urls[0]),
        shards=shards,
        read=tuple(header for header, _ in read),
        files=UrlFiles(urls=urls),
    )


def _refuse_other_schemes(url: str) -> None:
    scheme = urlsplit(url).scheme.lower()
    if scheme not in {"http", "https"}:
        raise UsageError(
            f"{strip_secrets(url)} is not an address that can be read: {scheme} is neither http nor https",
            hint="give an https://….gguf URL",
        )


def shard_urls(url: str) -> tuple[str, ...]:
    """Return the URLs of all shards, in order."""
    parts = urlsplit(url)
    folder, slash, name = parts.path.rpartition("/")
    shard = shard_name(name)
    if shard is None:
        return (url,)
    return tuple(urlunsplit(parts._replace(path=folder + slash + name)) for name in shard.all_names())


def file_name(url: str) -> str:
    """Return the file's own name. Raises UsageError if it could not be a file here."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    wrong = safe_file_name(name)
    if wrong is not None:
        raise UsageError(
            f"the file name in {strip_secrets(url)} {wrong}", hint="give the .gguf file's own URL"
        )
    return name


def _read_all(urls: tuple[str, ...], policy: Policy) -> tuple[tuple[tuple[Header, bytes], int], ...]:
    """Read headers and sizes side by side, in order."""
    with Reader(policy) as reader:
        return tuple(reader.side_by_side(partial(_read_one, reader), urls, most=_AT_ONCE))


def _read_one(reader: Reader, url: str) -> tuple[tuple[Header, bytes], int]:
    explain = partial(why_url_not_read, url=url)
    file = RangedFile(reader, Resource(url=url), strip_secrets(url), explain, ranges_only=True)
    header = read_remote_header(file)
    if file.size_bytes is None:
        raise TryAgain(f"{file.name} was read without its size", hint="run it again")
    return header, file.size_bytes


def why_url_not_read(trouble: Trouble, url: str) -> LauncherError:
    """Return the error for a URL that could not be read."""
    name, reason = strip_secrets(url), trouble.reason
    answered = trouble.status not in {None, 200, 206}
    if answered and trouble.kind in {TroubleKind.REFUSED, TroubleKind.LINK, TroubleKind.BUSY}:
        return _why_refused(trouble, name)
    kind: type[LauncherError] = UsageError
    hint = _BY_PATH
    match trouble.kind:
        case TroubleKind.DISTRUSTED:
            message = f"{name} cannot be read: its certificate is not trusted: {reason}"
            hint = AUTHORITY_HINT
        case TroubleKind.IGNORES_RANGES:  # a model is never read whole for its header
            message = f"the server of {name} ignores ranges, and the header alone cannot be read"
        case TroubleKind.VAGUE:
            message = f"the server of {name} answers a range without saying which bytes these are"
        case TroubleKind.REFUSED:
            message = f"{name} cannot be read: {reason}"
        case TroubleKind.MISFIT | TroubleKind.CHANGED:
            kind, message, hint = TryAgain, f"{name} changed while it was read", "run it again"
        case _:
            kind, message = TryAgain, f"{name} cannot be read: {reason}"
            hint = "check the network, then run it again"
    return kind(message, hint=hint)


def _why_refused(trouble: Trouble, name: str) -> LauncherError:
    """Return the error for an answer without the requested bytes."""
    status = trouble.status
    if status in {401, 403}:
        return NotAllowed(
            f"{name} may not be read: the server answered {status}", hint="check the URL's rights"
        )
    if status in {404, 410}:
        return NotFound(f"there is no {name}: the server answered {status}", hint="check the URL")
    if trouble.kind is not TroubleKind.BUSY:
        return UsageError(f"{name} cannot be read: the server answered {status}", hint="check the URL")
    waits = trouble.retry_after_s or 0.0
    later = f", and asks to wait {waits:.0f} s" if waits > LOOK_UP.longest_wait_s else ""
    return TryAgain(
        f"{name} is not there now: the server answered {status}{later}", hint="run it again later"
    )
