"""A file to download, and who receives it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.errors import LauncherError
from launcher.models.transfer.partial_file import PartialFile
from launcher.system.network.trouble import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file to be fetched by whoever holds `lock_path`."""

    name: str
    size_bytes: int
    sha256: str | None  # None: nothing is hashed
    url: str
    headers: tuple[tuple[str, str], ...] = ()  # a token: sent to the origin of `url` only
    partial_path: Path
    lock_path: Path
    identity: str  # a partial file is continued only if its journal has the same
    pins_version: bool = False  # and, if True, only while the server's ETag is the same


class Recipient(Protocol):
    """The interface of a receiver of files."""

    # called in the calling thread, with the file's lock held

    def find_locally(self, download: Download) -> bool:
        """Return True if another program fetched the file meanwhile, or it was linked or copied."""

    def accept(self, download: Download, partial_file: PartialFile) -> None:
        """Give the file its place. It is whole, verified, on the disk and closed."""

    def explain(self, download: Download, trouble: Trouble) -> LauncherError:
        """Return the error to raise."""
