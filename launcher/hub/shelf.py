"""What is in the stores of this machine: models whole and partial, in the Hub's cache, our own folder, Ollama's and
LM Studio's; and taking one out of the first two, so that what others still use stays."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import NotFound, TryAgain, UsageError
from launcher.gguf.names import FileGroup, group_files
from launcher.hub.elsewhere import lm_studio_folders, ollama_folders
from launcher.hub.store import HubStore
from launcher.hub.transfer.journal import arrived_bytes
from launcher.hub.transfer.part import remove_part
from launcher.locks import exclusive_if_free

HUB, OWN, OLLAMA, LM_STUDIO = "hub", "launcher", "ollama", "lm studio"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One quant in one store. `name` is what `rm` takes, and `up` where `store` is the Hub's cache. `here_bytes` of
    `size_bytes` have arrived, unknown where nothing says how many there should be. `used_at` is when a file was
    last read, as seconds of the epoch, as exactly as the file system keeps it. `paths` are the names to remove,
    `parts` partial files, `folder` what they are in."""

    name: str
    quant: str
    store: str
    size_bytes: int | None
    here_bytes: int
    is_whole: bool
    used_at: float | None
    folder: Path
    paths: tuple[Path, ...]
    parts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The folders to look in."""

    hub_cache: Path
    models_dir: Path
    ollama: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()


def stores_here(hub_cache: Path, models_dir: Path) -> Stores:
    """Where the other programs keep their models for this user."""
    return Stores(
        hub_cache=hub_cache,
        models_dir=models_dir,
        ollama=ollama_folders(),
        lm_studio=lm_studio_folders(),
    )


def list_kept(stores: Stores, store: HubStore) -> tuple[Kept, ...]:
    """Everything, by store and name. What cannot be read is left out."""
    found: list[Kept] = []
    for repo_folder in sorted(_entries(stores.hub_cache, "models--*")):
        with contextlib.suppress(OSError):
            found += _in_repo(repo_folder, store)
    found += _in_folder(stores.models_dir, OWN)
    for folder in stores.ollama:
        found += _in_ollama(folder)
    for folder in stores.lm_studio:
        found += _in_folder(folder, LM_STUDIO)
    return tuple(found)


def pick_kept(kept: Iterable[Kept], names: Iterable[str]) -> tuple[Kept, ...]:
    """Those called by one of `names`, with all quants where none is named.

    Raises NotFound, UsageError for one that belongs to another program.
    """
    kept, names = tuple(kept), tuple(names)
    wanted = [name.lower() for name in names]
    found = [one for one in kept if any(_is_called(one.name.lower(), name) for name in wanted)]
    ours = tuple(one for one in found if one.store in {HUB, OWN})
    if ours:
        return ours
    if found:
        raise UsageError(
            f"{found[0].name} belongs to {found[0].store}",
            hint=f"ollama rm {found[0].name}" if found[0].store == OLLAMA else "remove it in LM Studio",
        )
    raise NotFound(f"there is no {names[0]} in the stores here", hint="launcher ls")


def _is_called(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}:")


def remove_kept(one: Kept) -> int:
    """Take it out; the bytes that this frees: not of files that other revisions, quants or programs still have.

    Raises TryAgain while it is downloaded, OSError.
    """
    with contextlib.ExitStack() as held:
        for part in one.parts:
            if not held.enter_context(exclusive_if_free(_lock_of(part, one))):
                raise TryAgain(f"{one.name} is being downloaded", hint="end that download, then run it again")
        freed = sum(_remove_part(part) for part in one.parts)
        blobs = {blob for path in one.paths if (blob := _behind(path)) is not None}
        for path in one.paths:
            if path not in blobs:
                path.unlink(missing_ok=True)
        used = {_behind(path) for path in _pointers(one.folder)} if one.store == HUB else set()
        freed += sum(_unlink(blob) for blob in sorted(blobs - used))
    _tidy(one)
    return freed


def _in_repo(folder: Path, store: HubStore) -> Iterator[Kept]:
    """Per commit: what the listing of it says there is, as far as a file or a part of it is here."""
    repo = folder.name.removeprefix("models--").replace("--", "/")
    parts = {path.name.removesuffix(".part"): path for path in _entries(folder, "blobs/*.part")}
    commits = {path.name for path in _entries(folder, "snapshots/*")}
    commits |= {commit for path in _entries(folder, "refs/**/*") if (commit := _read_ref(path))}
    commits |= {listing.commit for listing in store.listings(repo)} if parts else set()
    claimed: set[Path] = set()
    for commit in sorted(commits):
        snapshot = folder / "snapshots" / commit
        here = {
            path.relative_to(snapshot).as_posix(): path for path in snapshot.rglob("*.gguf") if path.exists()
        }
        listing = store.listing(repo, commit)
        sizes = {name: path.stat().st_size for name, path in here.items()}
        listed = {file.name: file for file in listing.files} if listing else {}
        all_sizes = {name: file.size_bytes for name, file in listed.items()} | sizes
        for group in group_files(all_sizes.items()):
            paths = tuple(here[name] for name in group.names if name in here)
            hashes = [
                listed[name].sha256 or "" for name in group.names if name in listed and name not in here
            ]
            own = tuple(parts[sha256] for sha256 in hashes if sha256 in parts)
            if paths or own:
                claimed.update(own)
                size = group.size_bytes if listing or group.is_complete else None
                yield _kept(f"{repo}:{group.label}", group, HUB, size, folder, paths, own)
    for part in sorted(set(parts.values()) - claimed):
        yield _nameless(repo, part, folder)


def _nameless(repo: str, part: Path, folder: Path) -> Kept:
    """A partial file whose listing is gone."""
    return Kept(
        name=f"{repo}:{part.name[:12]}",
        quant="?",
        store=HUB,
        size_bytes=part.stat().st_size,
        here_bytes=arrived_bytes(part),
        is_whole=False,
        used_at=part.stat().st_mtime,
        folder=folder,
        paths=(),
        parts=(part,),
    )


def _in_folder(root: Path, store: str) -> Iterator[Kept]:
    """A folder of folders of files: each folder's groups, called by their files."""
    places = sorted(
        {path.parent for pattern in ("*.gguf", "*.gguf.part") for path in _entries(root, f"**/{pattern}")}
    )
    for place in places:
        with contextlib.suppress(OSError):
            here = {path.name: path for path in _entries(place, "*.gguf")}
            parts = {path.name.removesuffix(".part"): path for path in _entries(place, "*.gguf.part")}
            sizes = {name: path.stat().st_size for name, path in (parts | here).items()}
            for group in group_files(sizes.items()):
                paths = tuple(here[name] for name in group.names if name in here)
                own = tuple(parts[name] for name in group.names if name in parts and name not in here)
                name = Path(group.names[0]).name.removesuffix(".gguf")
                if store == LM_STUDIO:
                    name = f"{place.relative_to(root).as_posix()}:{group.label}"
                size = group.size_bytes if group.is_complete else None
                yield _kept(name, group, store, size, place, paths, own)


def _in_ollama(folder: Path) -> Iterator[Kept]:
    """By its manifests: registry/namespace/name/tag, JSON with the model's digest."""
    for manifest in sorted(_entries(folder / "manifests", "*/*/*/*")):
        try:
            layers = json.loads(manifest.read_bytes())["layers"]
            model = next(layer for layer in layers if layer["mediaType"] == _OLLAMA_MODEL)
            blob = folder / "blobs" / str(model["digest"]).replace(":", "-")
            size = int(model["size"])
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            continue
        namespace, name, tag = manifest.parts[-3:]
        here = blob.stat().st_size if blob.exists() else 0
        yield Kept(
            name=f"{name}:{tag}" if namespace == "library" else f"{namespace}/{name}:{tag}",
            quant=tag,
            store=OLLAMA,
            size_bytes=size,
            here_bytes=here,
            is_whole=here == size,
            used_at=blob.stat().st_atime if here else None,
            folder=folder,
            paths=(blob,),
        )


def _kept(
    name: str,
    group: FileGroup,
    store: str,
    size: int | None,
    folder: Path,
    paths: tuple[Path, ...],
    parts: tuple[Path, ...],
) -> Kept:
    here = sum(path.stat().st_size for path in paths) + sum(arrived_bytes(part) for part in parts)
    times = [path.stat().st_atime for path in paths] + [part.stat().st_mtime for part in parts]
    return Kept(
        name=name,
        quant=group.label,
        store=store,
        size_bytes=size,
        here_bytes=here,
        is_whole=group.is_complete and len(paths) == len(group.names) and not parts,
        used_at=max(times, default=None),
        folder=folder,
        paths=paths,
        parts=parts,
    )


def _entries(folder: Path, pattern: str) -> list[Path]:
    """None where the folder is not there or another user's."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _read_ref(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):  # a folder: branches may have a slash
        return None


def _lock_of(part: Path, one: Kept) -> Path:
    stem = part.name.removesuffix(".part")
    if one.store == HUB:  # the Hub's layout: CACHE/.locks/models--o--r/HASH.lock
        return one.folder.parent / ".locks" / one.folder.name / f"{stem}.lock"
    return part.with_name(f"{stem}.lock")


def _pointers(folder: Path) -> list[Path]:
    return [path for path in _entries(folder, "snapshots/**/*") if path.is_symlink()]


def _behind(path: Path) -> Path | None:
    """The blob a snapshot's link names, one step only: a blob may itself be a link to another program's file.
    A file that is no link is its own blob."""
    if path.is_symlink() and "snapshots" in path.parts:
        return Path(os.path.normpath(path.parent / path.readlink()))
    return path if os.path.lexists(path) else None


def _remove_part(part: Path) -> int:
    freed = part.stat().st_blocks * 512 if part.exists() else 0
    remove_part(part)
    return freed


def _unlink(blob: Path) -> int:
    """Bytes that this frees: none for a link to another program's file, or a file with another name."""
    try:
        about = blob.lstat()
        blob.unlink()
    except FileNotFoundError:
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 else 0


def _tidy(one: Kept) -> None:
    """Remove folders that became empty, and names of commits of which nothing is left."""
    root = one.folder
    for folder in sorted((path for path in _entries(root, "**/*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    if one.store == HUB:
        for ref in _entries(root, "refs/**/*"):
            commit = _read_ref(ref)
            if commit and not (root / "snapshots" / commit).exists():
                ref.unlink(missing_ok=True)
        for folder in (root / "refs", root):
            with contextlib.suppress(OSError):
                folder.rmdir()
    else:
        with contextlib.suppress(OSError):  # a lock stays, and its folder: a pull may hold it by now
            root.rmdir()
