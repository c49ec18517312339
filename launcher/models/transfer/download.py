"""What a transfer is asked for, and whom it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.errors import LauncherError
from launcher.models.transfer.failures import Trouble
from launcher.models.transfer.partial_file import PartialFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file to be fetched from `url` into `part`. `headers` (a token) go to the origin of `url` only.

    `identity` is what a partial file must have been begun as to be gone on with; with `pins_version` the server's
    ETag must stay the same too. Without a `sha256` nothing is hashed. Whoever holds `lock` fetches it.
    """

    name: str
    size_bytes: int
    sha256: str | None
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    partial_path: Path
    lock_path: Path
    identity: str
    pins_version: bool = False


class Recipient(Protocol):
    """Whom the files are for. Called in the calling thread, with the file's lock held."""

    def find_locally(self, wanted: Download) -> bool:
        """Whether it is here after all: somebody else has fetched it meanwhile."""

    def accept(self, wanted: Download, part: PartialFile) -> None:
        """`part` is whole, verified, on the disk, closed: give it its place."""

    def explain(self, wanted: Download, trouble: Trouble) -> LauncherError:
        """What to raise for trouble that did not pass."""
