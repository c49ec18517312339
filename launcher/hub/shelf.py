"""What is in the stores of this machine: models whole and partial, in the Hub's cache, our own folder, Ollama's and
LM Studio's, and in the folders that `--dir` and `--from` named."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import NotFound, UsageError
from launcher.gguf.names import FileGroup, group_all
from launcher.hub.elsewhere import lm_studio_folders, ollama_folders
from launcher.hub.store import HubStore, Owners, file_key
from launcher.hub.transfer.journal import arrived_bytes, begun_as

HUB, OWN, OLLAMA, LM_STUDIO, YOURS = "hub", "launcher", "ollama", "lm studio", "yours"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_MOST_LEVELS, _MOST_SEEN = 4, 20_000  # of a named folder: a disk's root or a network's would take minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One quant in one store. `name` is what `rm` takes, and `up` where it is in the Hub's cache or in a folder that was
    named: there it is the first file's path, and `store` says whether launcher put it there. `here_bytes` of
    `size_bytes` have arrived, unknown where nothing says how many there should be. `used_at` is when a file was
    last read, as exactly as the file system keeps it, or a server was started with it, as seconds of the epoch. `paths` are the names to remove,
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

    @property
    def is_by_path(self) -> bool:
        """Whether it is in a folder that was named, where files are the user's unless launcher put them there."""
        return self.name.startswith("/")


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
    for repo_folder in sorted(entries(stores.hub_cache, "models--*")):
        with contextlib.suppress(OSError):
            found += _in_repo(repo_folder, store)
    found += _in_folder(stores.models_dir, OWN)
    for folder in stores.ollama:
        found += _in_ollama(folder)
    owners = store.owners()
    for folder in stores.lm_studio:
        found += (_own_or(one, owners) for one in _in_folder(folder, LM_STUDIO))
    found += _in_named_folders(stores, store, owners)
    used = store.used()
    return tuple(_with_use(one, used) for one in found)


def _with_use(one: Kept, used: Mapping[str, float]) -> Kept:
    """The later of what the file system says, which many keep to the day or not at all, and the last `up`."""
    times = [used[path] for path in (str(path.resolve()) for path in one.paths) if path in used]
    return replace(one, used_at=max((one.used_at or 0.0, *times))) if times else one


def pick_kept(kept: Iterable[Kept], names: Iterable[str]) -> tuple[Kept, ...]:
    """Those called by one of `names`, with all quants where none is named.

    Raises NotFound, UsageError for one that belongs to another program.
    """
    kept, names = tuple(kept), tuple(names)
    found = [one for one in kept if any(_is_called(one.name, name) for name in names)]
    ours = tuple(one for one in found if one.store in {HUB, OWN})
    if ours:
        return ours
    if found and found[0].store == YOURS:
        files = shlex.join(str(path) for path in (*found[0].paths, *found[0].parts))
        raise UsageError(f"{found[0].name} was not put there by launcher", hint=f"rm {files}")
    if found:
        raise UsageError(
            f"{found[0].name} belongs to {found[0].store}",
            hint=f"ollama rm {found[0].name}" if found[0].store == OLLAMA else "remove it in LM Studio",
        )
    raise NotFound(f"there is no {names[0]} in the stores here", hint="launcher ls")


def _is_called(name: str, wanted: str) -> bool:
    if name.startswith("/"):
        return name == file_key(Path(wanted))
    name, wanted = name.lower(), wanted.lower()
    return name == wanted or name.startswith(f"{wanted}:")


def _in_repo(folder: Path, store: HubStore) -> Iterator[Kept]:
    """Per commit: what the listing of it says there is, as far as a file or a part of it is here."""
    repo = folder.name.removeprefix("models--").replace("--", "/")
    parts = {path.name.removesuffix(".part"): path for path in entries(folder, "blobs/*.part")}
    commits = {path.name for path in entries(folder, "snapshots/*")}
    commits |= {commit for path in entries(folder, "refs/**/*") if (commit := read_ref(path))}
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
        for group in group_all(all_sizes.items()):
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
        {path.parent for pattern in ("*.gguf", "*.gguf.part") for path in entries(root, f"**/{pattern}")}
    )
    for place in places:
        for group, paths, parts in _groups_in(place):
            name = Path(group.names[0]).name.removesuffix(".gguf")
            if store == LM_STUDIO:
                name = f"{place.relative_to(root).as_posix()}:{group.label}"
            with contextlib.suppress(OSError):
                yield _kept(name, group, store, _size(group), root, paths, parts)


def _groups_in(place: Path) -> Iterator[tuple[FileGroup, tuple[Path, ...], tuple[Path, ...]]]:
    """The groups of one folder's files, with those that are whole and the parts of others."""
    with contextlib.suppress(OSError):
        here = {path.name: path for path in entries(place, "*.gguf") if path.is_file()}
        parts = {path.name.removesuffix(".part"): path for path in entries(place, "*.gguf.part")}
        sizes = {name: path.stat().st_size for name, path in (parts | here).items()}
        for group in group_all(sizes.items()):
            paths = tuple(here[name] for name in group.names if name in here)
            own = tuple(parts[name] for name in group.names if name in parts and name not in here)
            yield group, paths, own


def is_put_there(paths: Sequence[Path], parts: Sequence[Path], owners: Owners) -> bool:
    """Whether launcher put all of these into a folder that was named: the store says so of these very files, or the
    journal of a partial one."""
    return all(owners.of(path) for path in paths) and all(begun_as(part) for part in parts)


def _own_or(one: Kept, owners: Owners) -> Kept:
    """As a file of launcher's, by its path, where it was put into another program's folder with `--dir`."""
    if not is_put_there(one.paths, one.parts, owners):
        return one
    return replace(one, name=_name_by_path(one.paths, one.parts), store=OWN)


def _in_named_folders(stores: Stores, store: HubStore, owners: Owners) -> Iterator[Kept]:
    """What is in the folders that were named, where it is not listed as another store's or another such folder's; where
    files were put, however deep, and besides as far as `_below` looks. Folders that are gone are forgotten."""
    gone = [folder for folder in store.folders() if not _is_folder(folder)]
    if gone:
        store.forget_folders(gone)
    theirs = {
        folder.resolve()
        for folder in (stores.hub_cache, stores.models_dir, *stores.ollama, *stores.lm_studio)
    }
    named = sorted(folder for folder in store.folders() if theirs.isdisjoint((folder, *folder.parents)))
    seen: set[Path] = set()
    for folder in named:
        for repo_folder in sorted(entries(folder, "models--*")):
            with contextlib.suppress(OSError):
                yield from (replace(one, store=YOURS) for one in _in_repo(repo_folder, store))
        yield from _in_ollama(folder)
        for place in _below(folder, theirs | set(named)):
            seen.add(place)
            yield from _in_place(place, folder, owners)
    for place in sorted(owners.folders() - seen):
        if theirs.isdisjoint((place, *place.parents)):
            root = next((folder for folder in reversed(named) if folder in place.parents), place)
            yield from (one for one in _in_place(place, root, owners) if one.store == OWN)


def _in_place(place: Path, folder: Path, owners: Owners) -> Iterator[Kept]:
    """The groups of one folder in or below `folder`, with whose they are."""
    for group, paths, parts in _groups_in(place):
        whose = OWN if is_put_there(paths, parts, owners) else YOURS
        with contextlib.suppress(OSError):
            yield _kept(_name_by_path(paths, parts), group, whose, _size(group), folder, paths, parts)


def _name_by_path(paths: Sequence[Path], parts: Sequence[Path]) -> str:
    names = [*paths, *(part.with_name(part.name.removesuffix(".part")) for part in parts)]
    return file_key(min(names))


def _below(root: Path, others: Collection[Path]) -> Iterator[Path]:
    """The folder and those below it, level by level, that have model files; but hidden ones, caches of the Hub's and
    `others`, and no more than a few levels and so many entries."""
    n_seen, level = 0, [root]
    for _ in range(_MOST_LEVELS):
        below: list[Path] = []
        for place in level:
            has_models = False
            with contextlib.suppress(OSError), os.scandir(place) as found:
                for entry in found:
                    n_seen += 1
                    if n_seen > _MOST_SEEN:
                        break
                    has_models = has_models or entry.name.endswith((".gguf", ".gguf.part"))
                    if not entry.name.startswith((".", "models--")) and entry.is_dir(follow_symlinks=False):
                        below.append(Path(entry.path))
            if has_models:
                yield place
            if n_seen > _MOST_SEEN:
                return
        level = sorted(place for place in below if place not in others)


def _in_ollama(folder: Path) -> Iterator[Kept]:
    """By its manifests: registry/namespace/name/tag, JSON with the model's digest."""
    for manifest in sorted(entries(folder / "manifests", "*/*/*/*")):
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


def _size(group: FileGroup) -> int | None:
    return group.size_bytes if group.is_complete else None


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


def _is_folder(path: Path) -> bool:
    """Also where another user's rights keep us from looking."""
    try:
        return path.is_dir()
    except OSError:
        return True


def entries(folder: Path, pattern: str) -> list[Path]:
    """None where the folder is not there or another user's."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def read_ref(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):  # a folder: branches may have a slash
        return None
