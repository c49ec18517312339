"""Fetch a file of known size and sha256, by the transfer that models come by: resumed, verified, whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import HashMismatch, LauncherError, NotAllowed, NotFound, TryAgain
from launcher.gguf.model import Shard
from launcher.models.files.disk_space import Destination, disk_error, refuse_full_disk
from launcher.models.files.place import partial_path_of
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.transfer import download_all, tuning_here
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.system.packages import sha256_of

_JOB = "llama.cpp"
_UNPACKED = 4  # times an archive's size: programs compress to a third (17 MB of 55)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file to fetch."""

    name: str
    url: str
    size_bytes: int
    sha256: str


def fetch_files(files: Sequence[RemoteFile], folder: Path, on_progress: OnProgress) -> tuple[Path, ...]:
    """Return the files in `folder`, each with its sha256; what is there already is not fetched.

    Raises TryAgain (network, disk), HashMismatch, NotFound, NotAllowed.
    """
    recipient = _Recipient(folder)
    destination = Destination(folder=folder, alternative="set LAUNCHER_HOME to a folder elsewhere")
    downloads = [recipient.download_of(file) for file in files]
    missing = [download for download in downloads if not recipient.find_locally(download)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if missing:
            needed = [
                (Shard(name=file.name, size_bytes=file.size_bytes * times), partial_path_of(folder / name))
                for file in missing
                for name, times in ((file.name, 1), (f"{file.name} unpacked", _UNPACKED))
            ]
            refuse_full_disk(destination, needed, what=missing[0].name)
        # a model may be pulled meanwhile
        download_all(missing, recipient, tuning_here(), lambda step: on_progress(replace(step, job=_JOB)))
    except OSError as error:
        raise disk_error(error, destination) from error
    return tuple(folder / file.name for file in files)


class _Recipient:
    """The receiver of these files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def download_of(self, file: RemoteFile) -> Download:
        path = self._folder / file.name
        return Download(
            name=file.name,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            url=file.url,
            partial_path=partial_path_of(path),
            lock_path=path.with_name(f".{file.name}.lock"),
            identity=file.sha256,
        )

    def find_locally(self, download: Download) -> bool:
        path = self._folder / download.name
        try:
            return path.stat().st_size == download.size_bytes and sha256_of(path) == download.sha256
        except OSError:
            return False

    def accept(self, download: Download, partial_file: PartialFile) -> None:
        partial_file.become(self._folder / download.name)

    def explain(self, download: Download, trouble: Trouble) -> LauncherError:
        where = strip_secrets(download.url)
        if trouble.kind is TroubleKind.HASH:
            return HashMismatch(
                f"{where} arrived twice with the sha256 {trouble.reason[:12]}…, and the release lists "
                f"{(download.sha256 or '')[:12]}…: nothing of it is used",
                hint="run it again later, or launcher engine install wheel",
            )
        if trouble.status in {401, 403}:
            return NotAllowed(
                f"{where} may not be read: the server answered {trouble.status}",
                hint="launcher engine install wheel",
            )
        if trouble.status in {404, 410}:
            return NotFound(
                f"there is no {where}: the server answered {trouble.status}",
                hint="launcher engine install latest",
            )
        return TryAgain(
            f"{where} did not arrive whole: {trouble.reason}",
            hint="it goes on where it stopped: run it again",
        )
