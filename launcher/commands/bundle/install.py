"""Install a bundle: look at it, ask for its engine, verify every byte, and put all of it in place."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.commands.bundle.archive import Bundle, Continued, read_bundle
from launcher.commands.bundle.manifest import ENGINE, LOCK, MODEL, BundledEngine
from launcher.commands.engine import find
from launcher.commands.engine_install import install as install_engine
from launcher.commands.here import Here
from launcher.commands.lock import Lock, LockedFiles, read_lock
from launcher.engine.capabilities import engine_digest, read_capabilities
from launcher.engine.find import Engine, read_engines
from launcher.engine.flags.from_file import check_flags_from_file
from launcher.engine.host_cpu import host_cpu
from launcher.errors import EngineFailed, HashMismatch, LauncherError, UsageError
from launcher.gguf.model import Shard
from launcher.models.bundled import BUNDLE_LOCK, bundles_folder
from launcher.models.files.disk_space import Destination, disk_error, refuse_full_disk
from launcher.models.url_secrets import quote_command
from launcher.progress import Step
from launcher.system.atomic_files import sync_folder
from launcher.system.json_object import parse_json
from launcher.system.locks import exclusive
from launcher.system.owned_files import open_file
from launcher.system.settings import expand_home


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledBundle:
    """A bundle that is here now."""

    model_id: str
    folder: Path
    lock: Path
    engine: Engine
    start: str  # the command that starts it


def install_bundle(here: Here, file: Path, *, trusts: bool) -> InstalledBundle:
    """Install a bundle; asks nobody's server. An install that was ended is gone on with.

    Its engine is a program of whoever made it: installed if it is here already, or if the user `trusts` it,
    asked where that is possible. Raises UsageError for what is no bundle or may not be done, HashMismatch for
    a damaged one, TryAgain for a full disk; then nothing of it is in use.
    """
    path = expand_home(file).absolute()
    bundle = read_bundle(path)
    manifest = bundle.manifest
    _check_processor(manifest.engine, path)
    engine = _engine_here(here, manifest.engine)
    if engine is None and not trusts:
        _ask(here, bundle)
    name = f"{manifest.name}-{bundle.manifest_sha256[:8]}"
    folder = bundles_folder(here.settings.models_dir) / name
    destination = Destination(
        folder=folder.parent,
        alternative="set LAUNCHER_HOME to a folder elsewhere",
        retry=quote_command(("launcher", "bundle", "install", str(file))),
    )
    try:
        with exclusive(folder.parent / ".locks" / name):
            if not folder.exists():
                stage = folder.with_name(f".install-{name}")
                _refuse_full_disk(bundle, stage, destination)
                _stage(here, bundle, stage, folder)
                engine = engine or _install_engine(here, bundle, stage)
                (stage / ENGINE).unlink(missing_ok=True)
                sync_folder(stage)
                stage.rename(folder)
                sync_folder(folder.parent)
            elif engine is None:  # removed since
                engine = _install_engine_anew(here, bundle, folder)
    except OSError as error:
        raise disk_error(error, destination) from error
    return _installed(here, bundle, folder, engine)


def _installed(here: Here, bundle: Bundle, folder: Path, engine: Engine) -> InstalledBundle:
    lock = folder / BUNDLE_LOCK
    words = ["launcher", "up", "--locked", str(lock)]
    if find(here, None).path != engine.path:
        words += ["--engine", str(engine.path)]
    return InstalledBundle(
        model_id=bundle.manifest.model_id,
        folder=folder,
        lock=lock,
        engine=engine,
        start=quote_command(words),
    )


def _check_processor(engine: BundledEngine, path: Path) -> None:
    """Raise EngineFailed if the engine's code is for another processor: it is not run to find out."""
    cpu = host_cpu()
    missing = sorted(set(engine.isa) - set(cpu.flags))
    if engine.arch != cpu.arch or missing:
        why = f"{engine.arch}, this is {cpu.arch}" if engine.arch != cpu.arch else f"{', '.join(missing[:5])}"
        raise EngineFailed(
            f"the engine in {path} was built for another processor: {why}",
            hint="launcher engine install takes one for all processors: make the bundle with it",
        )


def _engine_here(here: Here, engine: BundledEngine) -> Engine | None:
    """Return the very engine of the bundle, if this user has it already."""
    for built in read_engines(here.settings.engines_dir):
        try:
            if engine_digest(built, here.settings.cache_dir) == engine.digest:
                return built
        except OSError:
            continue
    return None


def _ask(here: Here, bundle: Bundle) -> None:
    """Raise UsageError unless the user trusts the engine."""
    engine = bundle.manifest.engine
    sentence = (
        f"{bundle.path.name} brings a program, llama-server of llama.cpp {engine.commit} "
        f"({engine.backend}, sha256 {engine.sha256})"
    )
    if not here.consent(f"{sentence}. Install it, and run it?"):
        raise UsageError(
            f"{sentence}: only a bundle whose maker is trusted may bring one",
            hint=f"launcher bundle install {bundle.path} -y, if its maker has this sha256 of the manifest: "
            f"{bundle.manifest_sha256}",
        )


def _refuse_full_disk(bundle: Bundle, stage: Path, destination: Destination) -> None:
    files = [
        (Shard(name=file.name, size_bytes=file.size_bytes), stage / file.name.removeprefix(MODEL))
        for file in bundle.manifest.files
    ]
    # an unpacked engine has about three times the bytes of its archive
    unpacked = 3 * bundle.manifest.by_name[ENGINE].size_bytes
    files.append((Shard(name="the engine", size_bytes=unpacked), stage / "unpacked"))
    refuse_full_disk(destination, files, what=bundle.path.name)


def _stage(here: Here, bundle: Bundle, stage: Path, folder: Path) -> None:
    """Bring every file into `stage`, verified; the lock as it is to be obeyed in `folder`."""
    total, done = sum(file.size_bytes for file in bundle.manifest.files), 0
    stage.mkdir(parents=True, exist_ok=True, mode=0o700)
    # first what can be refused
    _write_lock(bundle, stage, folder)
    for file in bundle.manifest.files:
        if file.name == LOCK:
            continue
        target = stage / file.name.removeprefix(MODEL)
        target.parent.mkdir(exist_ok=True)
        try:
            with os.fdopen(open_file(target, os.O_RDWR | os.O_CREAT, mode=0o644), "r+b") as out:
                written = Continued(out)
                for chunk in bundle.chunks(file.name):
                    written.put(chunk)
                    done += len(chunk)
                    here.on_progress(
                        Step(phase="install", done=done, total=total, unit="bytes", text=file.name)
                    )
                written.finish()
        except HashMismatch:
            target.unlink()
            raise


def _write_lock(bundle: Bundle, stage: Path, folder: Path) -> None:
    """Write the lock for the files as they will lie. Raises UsageError for one that `up` would refuse."""
    try:
        document: dict[str, Any] = parse_json(bundle.content(LOCK))
        for files in (document, *document["beside"]):
            files |= {"repo": None, "commit": None}
            files["path"] = str(folder / Path(files["shards"][0]["name"]).name)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(
            f"the lock in {bundle.path} is none: {error!r}", hint="make the bundle anew"
        ) from error
    path = stage / BUNDLE_LOCK
    path.write_bytes(json.dumps(document, indent=1).encode())
    try:
        lock = read_lock(path)
        check_flags_from_file((*lock.profile_flags, *lock.flags), f"the lock in {bundle.path}")
        _check_files(bundle, lock)
    except LauncherError:
        path.unlink()
        raise


def _check_files(bundle: Bundle, lock: Lock) -> None:
    """Raise UsageError unless lock and bundle name the same files of the model, and the same engine."""
    locked: list[tuple[str, int, str | None]] = []
    for files in (lock, *lock.companions):
        each: LockedFiles = files
        locked += [(Path(name).name, size, sha256) for name, size, sha256 in each.shards]
    bundled = {
        file.name.removeprefix(MODEL): file for file in bundle.manifest.files if file.name.startswith(MODEL)
    }
    same = len(locked) == len(bundled) and all(
        name in bundled and bundled[name].size_bytes == size and sha256 in {None, bundled[name].sha256}
        for name, size, sha256 in locked
    )
    if not same or lock.engine_sha256 != bundle.manifest.engine.digest:
        what = "engine" if same else "files"
        raise UsageError(
            f"the lock in {bundle.path} is for other {what} than the bundle has", hint="make the bundle anew"
        )


def _install_engine(here: Here, bundle: Bundle, stage: Path) -> Engine:
    """Install the engine through the gate of archives that others have made; it is tried before it counts."""
    # its file's name is what `engine list` shows
    engine = install_engine(here, str(stage / ENGINE)).engine
    known = read_capabilities(engine, here.settings.cache_dir)
    if known.sha256 != bundle.manifest.engine.digest:
        shutil.rmtree(engine.folder)
        raise UsageError(
            f"the engine in {bundle.path} is not the one that its manifest names", hint="make the bundle anew"
        )
    return engine


def _install_engine_anew(here: Here, bundle: Bundle, folder: Path) -> Engine:
    stage = folder.with_name(f".engine-{folder.name}")
    stage.mkdir(exist_ok=True, mode=0o700)
    try:
        with (stage / ENGINE).open("wb") as out:
            out.writelines(bundle.chunks(ENGINE))
        return _install_engine(here, bundle, stage)
    finally:
        shutil.rmtree(stage)
