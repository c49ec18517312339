"""Make a bundle: plan, pull, and write everything into one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from launcher import __version__
from launcher.commands.bundle.archive import ArchiveWriter
from launcher.commands.bundle.contents import check_sbom_library, licenses_of, sbom_of, write_engine
from launcher.commands.bundle.manifest import (
    ENGINE,
    LOCK,
    MODEL,
    PROFILE,
    SBOM,
    BundledEngine,
    BundledFile,
    Manifest,
    format_manifest,
)
from launcher.commands.engine_build import engine_or_build
from launcher.commands.here import Here
from launcher.commands.lock import lock_document
from launcher.commands.plan import plan
from launcher.commands.planned import Planned, PlanRequest, files_to_bring
from launcher.commands.pull import fetch_all
from launcher.deployment.record import deployment_name
from launcher.engine.find import Engine
from launcher.engine.host_cpu import host_cpu
from launcher.errors import EngineFailed, UsageError
from launcher.gguf.model import Shard
from launcher.models.files.disk_space import Destination, disk_error, refuse_full_disk
from launcher.models.located import DeferredFiles
from launcher.models.url_secrets import quote_command
from launcher.progress import Step
from launcher.system.atomic_files import sync_folder
from launcher.system.locks import try_lock
from launcher.system.owned_files import Owner, open_file
from launcher.system.settings import profiles_dir
from launcher.system.small_files import read_small


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A bundle that was written."""

    file: Path
    size_bytes: int
    manifest_sha256: str  # what whoever installs it can compare
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ingredients:
    planned: Planned
    engine: Engine
    # the model's shards, then those of its companions, each with the sha256 that it must have
    shards: tuple[tuple[Path, str | None], ...]


def make_bundle(here: Here, request: PlanRequest, file: Path) -> Made:
    """Write the planned model with all it needs into a new file.

    A file that was begun is gone on with. Raises UsageError if the file is there already, and what planning
    and fetching raise.
    """
    check_sbom_library()
    if file.exists():
        raise UsageError(f"{file} is there already", hint=f"launcher bundle install {file}")
    engine_or_build(here, request.engine, meanwhile=nullcontext)
    ingredients = _gather(here, request)
    again = quote_command(("launcher", "bundle", request.ref, str(file)))
    destination = Destination(folder=file.absolute().parent, alternative="name a file elsewhere", retry=again)
    partial = file.with_name(f"{file.name}.part")
    try:
        sizes = [Shard(name=path.name, size_bytes=path.stat().st_size) for path, _ in ingredients.shards]
        engine_size = sum(path.stat().st_size for path in ingredients.engine.folder.glob("lib*.so*"))
        total = sum(size.size_bytes for size in sizes) + engine_size
        whole = Shard(name=file.name, size_bytes=total)
        refuse_full_disk(destination, [(whole, partial)], what=file.name)
        with _locked(partial) as out:
            made = _write(here, ingredients, out, partial)
            partial.rename(file)
            sync_folder(file.absolute().parent)
    except OSError as error:
        raise disk_error(error, destination) from error
    return Made(file=file, size_bytes=file.stat().st_size, manifest_sha256=made[1], manifest=made[0])


def _gather(here: Here, request: PlanRequest) -> _Ingredients:
    """Plan, and bring the files here. Raises EngineFailed without an engine that could be carried."""
    planned = plan(here, request)
    again = ("launcher", "pull", request.ref)
    paths = fetch_all(here, files_to_bring(planned), again)
    if planned.located is not None and isinstance(planned.located.files, DeferredFiles):
        planned = plan(here, request)  # now its file has a place
    if planned.engine is None or planned.capabilities is None:
        raise EngineFailed("there is no engine to put into a bundle", hint="launcher engine install")
    located = files_to_bring(planned)
    shards = tuple(
        (path, shard.sha256)
        for each, own in zip(located, paths, strict=True)
        for shard, path in zip(each.model.shards, own, strict=True)
    )
    _refuse_local_files(planned.request.flags)
    names = [path.name for path, _ in shards]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two files of the model are called {name}", hint="rename one of them")
    return _Ingredients(planned=planned, engine=planned.engine, shards=shards)


def _refuse_local_files(flags: Sequence[str]) -> None:
    """Raise UsageError for a flag that names a file of this machine: a lock may not, nor is it carried."""
    pieces = [
        piece for word in flags for part in word.split(",") for piece in (part, part.rpartition(":")[0])
    ]
    local = next((piece for piece in pieces if piece and Path(piece).is_file()), None)
    if local is not None:
        raise UsageError(
            f"{local} is a file of this machine, and a bundle carries what a repo or URL names",
            hint="-hfd USER/REPO",
        )


def _write(here: Here, ingredients: _Ingredients, out: BinaryIO, partial: Path) -> tuple[Manifest, str]:
    planned, engine = ingredients.planned, ingredients.engine
    total = sum(path.stat().st_size for path, _ in ingredients.shards)
    done = [0]

    def report(n_bytes: int) -> None:
        done[0] += n_bytes
        here.on_progress(Step(phase="bundle", done=min(done[0], total), total=total, unit="bytes"))

    writer = ArchiveWriter(out, report)
    for path, expected in ingredients.shards:
        writer.add_file(f"{MODEL}{path.name}", path, expected)
    packed = partial.with_name(f"{partial.name}.engine")
    try:
        write_engine(engine, packed)
        writer.add_file(ENGINE, packed)
    finally:
        packed.unlink(missing_ok=True)
    writer.add_bytes(LOCK, json.dumps(lock_document(planned), indent=1).encode())
    profile = _profile_file(here, planned)
    if profile is not None:
        writer.add_bytes(PROFILE, profile)
    for name, text in licenses_of(planned, engine).items():
        writer.add_bytes(name, text)
    writer.add_bytes(SBOM, sbom_of(planned, writer.files))
    manifest = _manifest(planned, engine, writer.files)
    text = format_manifest(manifest)
    writer.end(text)
    return manifest, hashlib.sha256(text).hexdigest()


def _manifest(planned: Planned, engine: Engine, files: Sequence[BundledFile]) -> Manifest:
    build, known = engine.build, planned.capabilities
    return Manifest(
        name=deployment_name(planned.target.model_id),
        model_id=planned.target.model_id,
        made_by=f"launcher {__version__}",
        engine=BundledEngine(
            commit=(known.version.commit if known else None) or "unknown",
            backend=str(build.backend) if build else "unknown",
            arch=build.arch if build else host_cpu().arch,
            isa=build.isa if build else (),
            digest=known.sha256 if known else "",
            sha256=next(file.sha256 for file in files if file.name == ENGINE),
        ),
        files=tuple(files),
    )


def _profile_file(here: Here, planned: Planned) -> bytes | None:
    profile = planned.target.profile
    if profile is None:
        return None
    folders = (here.settings.own_profiles_dir, profiles_dir())
    paths = (folder / "models" / f"{profile.name}.toml" for folder in folders)
    found = next((path for path in paths if path.is_file()), None)
    return None if found is None else read_small(found)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Yield the partial file, opened by one process at a time."""
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT, owner=Owner.FOLDERS, mode=0o644)
    with os.fdopen(descriptor, "r+b") as file:
        if not try_lock(descriptor):
            raise UsageError(f"another launcher writes {path}", hint="wait for it, or name another file")
        yield file
