"""Bring the files of a hub repo into the Hub's own cache, whole and verified.

The transfer is huggingface_hub's: one stream per shard, at the pinned commit, into the cache that `hf`,
transformers and `llama-server -hf` share. Around it: the disk is asked before the first byte, every file is
hashed against the Hub's LFS sha256 before it counts, and a file that fails is removed, never handed on.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Self

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from launcher.errors import NotFound, TryAgain
from launcher.hub.endpoint import Endpoint, explained, not_cached, open_session
from launcher.hub.located import HubFiles, Located
from launcher.hub.refs import safe_file_name
from launcher.hub.store import HubStore, write_atomically
from launcher.locks import exclusive_if_free
from launcher.model import Shard
from launcher.progress import OnProgress, Step, silent
from launcher.units import MIB, format_bytes

_SPARE = 50  # one 50th on top (2 %): file system metadata, refs, logs
_ORPHAN_AGE_S = 600.0  # a live download writes all the time; the age guards file systems where locks lie
_HASH_CHUNK = 4 * MIB
_HASHERS = 4  # a core hashes 1.4 GB/s (measured, 2 GB in 1.5 s): four outrun most disks
_REPORT_EVERY_S = 0.2
_PLAIN_HTTP_BYTES = constants.MAX_HTTP_DOWNLOAD_SIZE  # the library refuses larger files without Xet


def pull(
    located: Located, *, endpoint: Endpoint, store: HubStore, on_progress: OnProgress = silent
) -> tuple[Path, ...]:
    """The local paths of all shards, in shard order; what is missing is downloaded first.

    Progress is reported as phases `pull` and `verify`, in bytes over all shards. Raises TryAgain for the
    network, a full disk or bytes that are not what the Hub says, NotFound and NotAllowed by the Hub's word.
    """
    files = located.files
    if not isinstance(files, HubFiles):
        raise TypeError(f"pull takes a model of the Hub, not {type(files).__name__}")
    shards = located.model.shards
    for shard in shards:
        _refuse_unsafe(files.repo, shard.name)
    cached = {shard.name: cached_file(endpoint, files, shard) for shard in shards}
    missing = tuple(shard for shard in shards if cached[shard.name] is None)
    if missing and endpoint.offline:
        raise not_cached(endpoint, f"{missing[0].name} of {files.repo}")
    with explained(endpoint, files.repo):
        for shard in missing:
            _remove_misfits(endpoint, files, shard)
            _remove_orphans(endpoint, files.repo, shard)
        _refuse_full_disk(endpoint, files.repo, missing)
    transfer = _Transfer(endpoint, files, sum(shard.size_bytes for shard in missing), on_progress)
    hashing = _Hashing(endpoint, files, store)
    with hashing:
        paths = tuple(
            hashing.begin(cached[shard.name] or transfer.download(shard), shard) for shard in shards
        )
        hashing.finish(on_progress)
    _keep_ref(endpoint, files)
    return paths


def cached_file(endpoint: Endpoint, files: HubFiles, shard: Shard) -> Path | None:
    """Where the Hub's cache has this shard with its true size, None where it does not."""
    found = huggingface_hub.try_to_load_from_cache(
        files.repo, shard.name, cache_dir=endpoint.cache_dir, revision=files.commit
    )
    if not isinstance(found, str):
        return None
    path = Path(found)
    return path if path.stat().st_size == shard.size_bytes else None


def repo_cache(endpoint: Endpoint, repo: str) -> Path:
    """The repo's folder in the Hub's cache: blobs/, refs/, snapshots/."""
    return endpoint.cache_dir / repo_folder_name(repo_id=repo, repo_type="model")


class _Transfer:
    """Downloads in the calling thread, so that Ctrl-C ends it where it is; the library then removes its
    partial file."""

    def __init__(self, endpoint: Endpoint, files: HubFiles, total: int, on_progress: OnProgress) -> None:
        self._endpoint, self._files, self._total, self._on_progress = endpoint, files, total, on_progress
        self._finished = 0

    def download(self, shard: Shard) -> Path:
        """Raises TryAgain for a file of another size than listed, after removing it."""

        def report(here: int) -> None:
            done = min(max(self._finished + here, 0), self._total)
            self._on_progress(Step(phase="pull", done=done, total=self._total, unit="bytes", text=shard.name))

        open_session(self._endpoint)
        with explained(self._endpoint, self._files.repo, shard.name), _transport(shard.size_bytes):
            found = huggingface_hub.hf_hub_download(
                self._files.repo,
                shard.name,
                revision=self._files.commit,
                endpoint=self._endpoint.url,
                cache_dir=self._endpoint.cache_dir,
                token=self._endpoint.library_token,
                etag_timeout=self._endpoint.patience_s,
                tqdm_class=_bar_class(report),
            )
        path = Path(found)
        size = path.stat().st_size
        if size != shard.size_bytes:
            _remove(path)
            raise TryAgain(
                f"{shard.name} arrived with {size} bytes, {self._endpoint.host} listed {shard.size_bytes}",
                hint="run it again; the file was removed",
            )
        report(shard.size_bytes)
        self._finished += shard.size_bytes
        return path


class _Hashing:
    """Hashes files in threads while others still arrive; leaving the block early stops them."""

    def __init__(self, endpoint: Endpoint, files: HubFiles, store: HubStore) -> None:
        self._endpoint, self._files, self._store = endpoint, files, store
        self._pool = ThreadPoolExecutor(max_workers=_HASHERS, thread_name_prefix="sha256")
        self._checks: list[tuple[Path, Shard, str, Future[str]]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, path: Path, shard: Shard) -> Path:
        """Start on this file, unless the Hub vouches for no hash or it was found right before."""
        if shard.sha256 is not None and not self._store.is_verified(path.resolve(), shard.sha256):
            self._checks.append((path, shard, shard.sha256, self._pool.submit(self._hash, path)))
        return path

    def finish(self, on_progress: OnProgress) -> None:
        """Wait for all. Raises TryAgain for the first file that is not what the Hub says; each is removed."""
        total = sum(shard.size_bytes for _, shard, _, _ in self._checks)
        pending = {future for *_, future in self._checks}
        while pending:
            _, pending = wait(pending, timeout=_REPORT_EVERY_S)
            on_progress(Step(phase="verify", done=self._done, total=total, unit="bytes"))
        damaged = [check for check in self._checks if not self._settle(*check)]
        if damaged:
            _, shard, expected, future = damaged[0]
            raise TryAgain(
                f"{shard.name} of {self._files.repo} has the sha256 {future.result()[:12]}…,"
                f" {self._endpoint.host} says {expected[:12]}…",
                hint="run it again; the damaged file was removed",
            )

    def _settle(self, path: Path, shard: Shard, expected: str, future: Future[str]) -> bool:
        with explained(self._endpoint, self._files.repo, shard.name):
            found = future.result()
        if found != expected:
            _remove(path)
            return False
        self._store.keep_verified(path.resolve(), expected)
        return True

    def _hash(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while (chunk := file.read(_HASH_CHUNK)) and not self._stop.is_set():
                digest.update(chunk)
                with self._lock:
                    self._done += len(chunk)
        return digest.hexdigest()


def _bar_class(report: Callable[[int], None]) -> type:
    """What huggingface_hub takes for a progress bar; `report` gets the bytes of this file so far.

    With `update_transfer` on it the Xet path drives one bar instead of two (_xet_progress_reporting.py).
    """

    class Bar:
        def __init__(self, **about: object) -> None:
            initial = about.get("initial")
            self.n = initial if isinstance(initial, int) else 0

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: int = 1) -> None:
            self.n += n
            report(self.n)

        def update_transfer(self, n: int = 1) -> None:
            """Bytes off the network, of which Xet may need fewer than the file has."""

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            """The speed; whoever shows the progress works it out."""

        set_transfer_postfix_str = set_postfix_str

        def close(self) -> None:
            pass

    return Bar


@contextlib.contextmanager
def _transport(size_bytes: int) -> Iterator[None]:
    """Plain HTTP where the library allows it, which is up to 50 GB; Xet only above.

    Xet is known to stall near the end of large files (hf-xet issues 850 and 883, huggingface_hub issue
    4520), keeps a second copy of chunks on the disk, and cannot be resumed or ranged by us.
    """
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or size_bytes <= _PLAIN_HTTP_BYTES
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _refuse_unsafe(repo: str, name: str) -> None:
    wrong = safe_file_name(name)
    if wrong is not None:
        raise NotFound(f"the file name {name!r} in {repo} {wrong}", hint="name another file of the repo")


def _refuse_full_disk(endpoint: Endpoint, repo: str, missing: tuple[Shard, ...]) -> None:
    """Blobs that another commit brought are only linked, so they need no room."""
    blobs = repo_cache(endpoint, repo) / "blobs"
    absent = [shard for shard in missing if shard.sha256 is None or not (blobs / shard.sha256).exists()]
    needed = sum(shard.size_bytes for shard in absent) * (_SPARE + 1) // _SPARE
    folder = endpoint.cache_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TryAgain(
            f"{repo} needs {format_bytes(needed)} on the file system of {endpoint.cache_dir},"
            f" which has {format_bytes(free)} free",
            hint=f"free {format_bytes(needed - free)} there, or set HF_HUB_CACHE to another disk",
        )


def _remove_misfits(endpoint: Endpoint, files: HubFiles, shard: Shard) -> None:
    """Files of another size than listed, which the library would take for the shard: cut off by a crash."""
    folder = repo_cache(endpoint, files.repo)
    pointer = folder / "snapshots" / files.commit / shard.name
    if pointer.exists():
        _remove(pointer)
    if shard.sha256 is not None:
        blob = folder / "blobs" / shard.sha256
        if blob.exists() and blob.stat().st_size != shard.size_bytes:
            blob.unlink()


def _remove_orphans(endpoint: Endpoint, repo: str, shard: Shard) -> None:
    """Partial files of downloads that were killed: the library never goes on with one (its issue 4196)."""
    if shard.sha256 is None:
        return
    orphans = list((repo_cache(endpoint, repo) / "blobs").glob(f"{shard.sha256}*.incomplete"))
    if not orphans:
        return
    lock = endpoint.cache_dir / ".locks" / repo_cache(endpoint, repo).name / f"{shard.sha256}.lock"
    with exclusive_if_free(lock) as free:  # the very flock that the library holds while it downloads
        for orphan in orphans if free else []:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - orphan.stat().st_mtime > _ORPHAN_AGE_S:
                    orphan.unlink()


def _remove(path: Path) -> None:
    """A snapshot's link and the blob behind it."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _keep_ref(endpoint: Endpoint, files: HubFiles) -> None:
    """Name the commit as the library does, so that offline `hf` and `llama-server -hf` find it."""
    if files.revision is None:
        return
    ref = repo_cache(endpoint, files.repo) / "refs" / files.revision
    with contextlib.suppress(OSError):  # a read-only cache that has all files is fine
        if not ref.exists() or ref.read_text() != files.commit:
            write_atomically(ref, files.commit.encode())
