"""Parse the answers of the releases API, whatever a server sends. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from launcher.engine.sources.assets import is_tag
from launcher.system.json_object import parse_json
from launcher.units import GIB

POINTER = "nightly-tag.txt"
MOST_POINTER_BYTES = 128
MOST_ANSWER_BYTES = 8 << 20  # 20 releases of 33 files take about 1 MB
MOST_FILE_BYTES = 4 * GIB
_MOST_RELEASES = 100
_MOST_FILES = 500
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """A file of a release, as the API lists it."""

    name: str
    url: str  # as listed: it may be relative
    size_bytes: int
    sha256: str | None  # None: the API vouches for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release and its files."""

    tag: str
    files: tuple[ReleaseFile, ...]

    def file(self, name: str) -> ReleaseFile | None:
        return next((file for file in self.files if file.name == name), None)


def parse_release(body: bytes) -> Release:
    """Parse one release. Raises ValueError."""
    return _release(parse_json(body.decode()))


def parse_builds(body: bytes) -> tuple[Release, ...]:
    """Parse a list of releases; return those of builds (`b11026`), the newest first. Raises ValueError."""
    listed = parse_json(body.decode())
    if not isinstance(listed, list):
        raise ValueError("it is no list of releases")  # noqa: TRY004 (what a reader takes as garbled)
    releases = [_release(entry) for entry in listed[:_MOST_RELEASES]]
    builds = [release for release in releases if is_tag(release.tag)]
    return tuple(sorted(builds, key=lambda release: int(release.tag[1:]), reverse=True))


def parse_pointer(body: bytes) -> str:
    """Parse nightly-tag.txt: one line with the tag of a build. Raises ValueError."""
    text = body.decode("ascii").strip()
    if not is_tag(text):
        raise ValueError(f"{POINTER} does not hold the tag of a build")
    return text


def _release(entry: Any) -> Release:
    if not isinstance(entry, dict):
        raise ValueError("it is no release")  # noqa: TRY004 (the same)
    tag, assets = entry.get("tag_name"), entry.get("assets")
    if not isinstance(tag, str) or not isinstance(assets, list):
        raise ValueError("a release has no tag or no files")  # noqa: TRY004 (the same)
    files = (_file(asset) for asset in assets[:_MOST_FILES])
    # of a name that comes twice the first
    by_name = {file.name: file for file in reversed([file for file in files if file is not None])}
    return Release(tag=tag[:100], files=tuple(reversed(by_name.values())))


def _file(asset: Any) -> ReleaseFile | None:
    """Return a file; None if it cannot be one that is fetched."""
    if not isinstance(asset, dict):
        return None
    name, size = asset.get("name"), asset.get("size")
    address, digest = asset.get("browser_download_url"), asset.get("digest")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MOST_FILE_BYTES:
        return None
    if not isinstance(address, str) or len(address) > 4096 or not address.isprintable():
        return None
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return ReleaseFile(
        name=name, url=address, size_bytes=size, sha256=match[1].lower() if match is not None else None
    )
