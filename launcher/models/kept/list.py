"""What is in the stores of this machine: models whole and partial, in the Hub's cache, our own folder, Ollama's and
LM Studio's, and in the folders that `--dir` and `--from` named."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import NotFound, UsageError
from launcher.gguf.file_names import group_all
from launcher.models.files.other_programs import lm_studio_folders, ollama_folders
from launcher.models.kept.folders import in_folders, named_folders, own_or
from launcher.models.kept.stored_model import (
    HUB,
    LM_STUDIO,
    OLLAMA,
    OWN,
    YOURS,
    StoredModel,
    entries,
    groups_in,
    kept_as,
    read_ref,
    size_of,
)
from launcher.models.store import HubStore, file_key
from launcher.models.transfer.journal import arrived_bytes

_OLLAMA_MODEL = "application/vnd.ollama.image.model"


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


def list_stored(stores: Stores, store: HubStore) -> tuple[StoredModel, ...]:
    """Everything, by store and name. What cannot be read is left out."""
    found: list[StoredModel] = []
    for repo_folder in sorted(entries(stores.hub_cache, "models--*")):
        with contextlib.suppress(OSError):
            found += _in_repo(repo_folder, store)
    found += _in_folder(stores.models_dir, OWN)
    for folder in stores.ollama:
        found += _in_ollama(folder)
    owners = store.owners()
    for folder in stores.lm_studio:
        found += (own_or(one, owners) for one in _in_folder(folder, LM_STUDIO))
    theirs = {
        folder.resolve()
        for folder in (stores.hub_cache, stores.models_dir, *stores.ollama, *stores.lm_studio)
    }
    named = [folder for folder in named_folders(store) if theirs.isdisjoint((folder, *folder.parents))]
    for folder in named:
        for repo_folder in sorted(entries(folder, "models--*")):
            with contextlib.suppress(OSError):
                found += (replace(one, store=YOURS) for one in _in_repo(repo_folder, store))
        found += _in_ollama(folder)
    found += in_folders(named, theirs, owners)
    used = store.used()
    return tuple(_with_use(one, used) for one in found)


def _with_use(one: StoredModel, used: Mapping[str, float]) -> StoredModel:
    """The later of what the file system says, which many keep to the day or not at all, and the last `up`."""
    times = [used[path] for path in (str(path.resolve()) for path in one.paths) if path in used]
    return replace(one, used_at=max((one.used_at or 0.0, *times))) if times else one


def pick_stored(kept: Iterable[StoredModel], names: Iterable[str]) -> tuple[StoredModel, ...]:
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


def _in_repo(folder: Path, store: HubStore) -> Iterator[StoredModel]:
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
                yield kept_as(f"{repo}:{group.label}", group, HUB, size, folder, paths, own)
    for part in sorted(set(parts.values()) - claimed):
        yield _nameless(repo, part, folder)


def _nameless(repo: str, part: Path, folder: Path) -> StoredModel:
    """A partial file whose listing is gone."""
    return StoredModel(
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


def _in_folder(root: Path, store: str) -> Iterator[StoredModel]:
    """A folder of folders of files: each folder's groups, called by their files."""
    places = sorted(
        {path.parent for pattern in ("*.gguf", "*.gguf.part") for path in entries(root, f"**/{pattern}")}
    )
    for place in places:
        for group, paths, parts in groups_in(place):
            name = Path(group.names[0]).name.removesuffix(".gguf")
            if store == LM_STUDIO:
                name = f"{place.relative_to(root).as_posix()}:{group.label}"
            with contextlib.suppress(OSError):
                yield kept_as(name, group, store, size_of(group), root, paths, parts)


def _in_ollama(folder: Path) -> Iterator[StoredModel]:
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
        yield StoredModel(
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
