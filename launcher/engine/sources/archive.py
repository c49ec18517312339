"""An engine in an archive that the user names: a file here, or its address."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from launcher.engine.sources.assets import parse_asset_name
from launcher.engine.sources.download import RemoteFile, fetch_files
from launcher.engine.sources.release_json import MOST_FILE_BYTES
from launcher.engine.sources.source import Offer
from launcher.engine.sources.unpack import unpack_all
from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.models.refs import safe_file_name
from launcher.models.url import why_url_not_read
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress
from launcher.system.network.policy import LOOK_UP
from launcher.system.network.ranged_file import RangedFile
from launcher.system.network.reader import Reader
from launcher.system.network.request import Resource
from launcher.system.network.trouble import Trouble
from launcher.system.packages import sha256_of
from launcher.units import format_bytes

_FRAGMENT = re.compile(r"sha256[=:]([0-9a-fA-F]{64})")
_YOURS = "whoever made the archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """A `Source`: a .tar.gz or .zip on this disk."""

    path: Path

    def find(self) -> tuple[Offer, ...]:
        """Return it. Raises UsageError if it cannot be read."""
        try:
            size, sha256 = self.path.stat().st_size, sha256_of(self.path)
        except OSError as error:
            raise UsageError(
                f"{self.path} cannot be read: {error.strerror}", hint="name a .tar.gz"
            ) from error
        return (_offer(self.path.name, str(self.path), size, sha256),)

    def fetch(
        self,
        offer: Offer,  # noqa: ARG002 (the protocol's)
        folder: Path,  # noqa: ARG002 (the protocol's)
        on_progress: OnProgress,  # noqa: ARG002 (the protocol's)
    ) -> tuple[Path, ...]:
        return (self.path,)

    def unpack(self, archives: tuple[Path, ...], target: Path) -> None:
        unpack_all(archives, target)

    def describe(self, offer: Offer) -> tuple[str, ...]:
        return (f"took {offer.title} out of {offer.file} (sha256 {(offer.sha256 or '')[:12]}…)",)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A `Source`: a .tar.gz or .zip behind an address that ends in #sha256=…."""

    url: str

    def find(self) -> tuple[Offer, ...]:
        """Return it, its size asked for. Raises UsageError without a sha256, and as the server answers."""
        address, fragment = urldefrag(self.url)
        match = _FRAGMENT.fullmatch(fragment)
        if match is None:
            raise UsageError(
                f"{strip_secrets(address)} comes without the sha256 that its file must have",
                hint="add #sha256=… to the address, or fetch it yourself and give its path",
            )
        name = unquote(urlsplit(address).path).rpartition("/")[2]
        wrong = safe_file_name(name)
        if wrong is not None:
            raise UsageError(f"the file name in {strip_secrets(address)} {wrong}", hint="name a .tar.gz")
        size = _ask_size(address)
        offer = _offer(name, strip_secrets(address), size, match[1].lower())
        file = RemoteFile(name=name, url=address, size_bytes=size, sha256=match[1].lower())
        return (replace(offer, remote=(file,)),)

    def fetch(self, offer: Offer, folder: Path, on_progress: OnProgress) -> tuple[Path, ...]:
        return fetch_files(offer.remote, folder, on_progress)

    def unpack(self, archives: tuple[Path, ...], target: Path) -> None:
        unpack_all(archives, target)

    def describe(self, offer: Offer) -> tuple[str, ...]:
        return (f"took {offer.title} from {offer.file} (sha256 {(offer.sha256 or '')[:12]}…)",)


def _offer(name: str, file: str, size: int, sha256: str) -> Offer:
    """Describe an archive, as far as its name says what is in it."""
    if not 0 < size <= MOST_FILE_BYTES:
        limit = format_bytes(MOST_FILE_BYTES)
        raise UsageError(f"{file} has {size} bytes; an engine has at most {limit}", hint="name a .tar.gz")
    known = parse_asset_name(name)
    if known is not None and known.is_runtime:
        raise UsageError(
            f"{file} holds CUDA's libraries without an engine",
            hint="name the archive without cudart in its name",
        )
    return Offer(
        title=f"llama.cpp {known.tag} for {known.title}" if known else f"the engine in {name}",
        kind="archive",
        made_by=_YOURS,
        file=file,
        version=known.tag if known else None,
        backend=known.backend if known else None,
        size_bytes=size,
        sha256=sha256,
    )


def _ask_size(url: str) -> int:
    def explain(trouble: Trouble) -> LauncherError:
        return why_url_not_read(trouble, url)

    with Reader(LOOK_UP) as reader:
        file = RangedFile(reader, Resource(url=url), strip_secrets(url), explain)
        file.read(0, 1)
    if not file.size_bytes:
        raise TryAgain(f"the server of {strip_secrets(url)} does not say its size", hint="fetch it yourself")
    return file.size_bytes
