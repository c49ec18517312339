"""What every source of a prebuilt engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.engine.sources.download import RemoteFile
from launcher.machine.machine import Backend
from launcher.progress import OnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One engine that a source has, and that should run here."""

    title: str  # `llama.cpp b11026 for Vulkan`
    kind: str  # release, wheel, archive
    made_by: str
    file: str  # the archive's name, or its address without secrets
    version: str | None  # b11026; None: the engine will say
    backend: Backend | None  # None: its libraries will say
    size_bytes: int
    sha256: str | None  # of the first archive; None: known when it is here
    expects_gpu: bool = False  # it does not count unless it lists one
    remote: tuple[RemoteFile, ...] = ()
    notes: tuple[str, ...] = ()  # what would be better, and why it is not taken


class Source(Protocol):
    """Where engines come from."""

    def find(self) -> tuple[Offer, ...]:
        """Return what runs on this machine, best first. Raises LauncherError where there is nothing."""

    def fetch(self, offer: Offer, folder: Path, on_progress: OnProgress) -> tuple[Path, ...]:
        """Return the archives of an offer, in `folder` or the user's own; each is verified."""

    def unpack(self, archives: tuple[Path, ...], target: Path) -> None:
        """Unpack them, one below the other, into the new folder `target`."""

    def describe(self, offer: Offer) -> tuple[str, ...]:
        """Say in sentences what was taken, who built it, and what another engine would bring."""
