"""List the models in the stores of this machine, whole and partial."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import NotFound, UsageError
from launcher.gguf.file_names import group_all, model_name
from launcher.models.files.other_programs import lm_studio_folders, ollama_folders
from launcher.models.kept.folders import in_folders, named_folders, owned_by_launcher
from launcher.models.kept.stored_model import (
    HUB,
    LM_STUDIO,
    OLLAMA,
    OWN,
    YOURS,
    QuantFiles,
    StoredModel,
    entries,
    quants_in,
    read_ref,
)
from launcher.models.store import HubStore, file_key
from launcher.models.transfer.journal import arrived_bytes
from launcher.system.json_object import JsonObject, parse_json
from launcher.system.owned_files import Owner, read_file

_MANIFEST_BYTES = 1 << 20  # Ollama's have 1 KB; its service is another user
_OLLAMA_MODEL = "application/vnd.ollama.image.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    hub_cache: Path
    models_dir: Path
    ollama: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()  # of the user's own, from the config file


def stores_here(hub_cache: Path, models_dir: Path, folders: tuple[Path, ...] = ()) -> Stores:
    return Stores(
        hub_cache=hub_cache,
        models_dir=models_dir,
        ollama=ollama_folders(),
        lm_studio=lm_studio_folders(),
        folders=folders,
    )


def list_stored(stores: Stores, store: HubStore) -> tuple[StoredModel, ...]:
    """List all models, by store and name. What cannot be read is left out."""
    models: list[StoredModel] = []
    for repo_folder in sorted(entries(stores.hub_cache, "models--*")):
        with contextlib.suppress(OSError):
            models += _in_repo(repo_folder, store)
    models += _in_folder(stores.models_dir, OWN)
    for folder in stores.ollama:
        models += _in_ollama(folder)
    owners = store.owners()
    for folder in stores.lm_studio:
        models += (owned_by_launcher(model, owners) for model in _in_folder(folder, LM_STUDIO))
    other_stores = {
        folder.resolve()
        for folder in (stores.hub_cache, stores.models_dir, *stores.ollama, *stores.lm_studio)
    }
    own = (folder.resolve() for folder in stores.folders if folder.is_dir())
    all_named = dict.fromkeys([*named_folders(store), *own])
    named = [folder for folder in all_named if other_stores.isdisjoint((folder, *folder.parents))]
    for folder in named:
        for repo_folder in sorted(entries(folder, "models--*")):
            with contextlib.suppress(OSError):
                models += (replace(model, store=YOURS) for model in _in_repo(repo_folder, store))
        models += _in_ollama(folder)
    models += in_folders(named, other_stores, owners)
    used = store.used()
    return tuple(_with_last_use(model, used) for model in models)


def find_stored(models: Iterable[StoredModel], text: str) -> StoredModel | None:
    """Return the whole model that is called so in `ls`, or whose file is; the first of several."""
    wanted = text.lower().removesuffix(".gguf")
    whole = [model for model in models if model.is_whole and model.paths]
    by_name = [model for model in whole if model.name.lower() == text.lower()]
    by_file = [model for model in whole if model_name(model.paths[0].name).lower() == wanted]
    return next(iter([*by_name, *by_file]), None)


def pick_stored(models: Iterable[StoredModel], names: Iterable[str]) -> tuple[StoredModel, ...]:
    """Return the models called by one of `names`; a name without a quant means all of them.

    Raises NotFound, and UsageError for a model of another program or the user's own.
    """
    names = tuple(names)
    called = [model for model in models if any(_is_called(model.name, name) for name in names)]
    ours = tuple(model for model in called if model.store in {HUB, OWN})
    if ours:
        return ours
    if called and called[0].store == YOURS:
        files = shlex.join(str(path) for path in (*called[0].paths, *called[0].parts))
        raise UsageError(f"{called[0].name} was not put there by launcher", hint=f"rm {files}")
    if called:
        raise UsageError(
            f"{called[0].name} belongs to {called[0].store}",
            hint=f"ollama rm {called[0].name}" if called[0].store == OLLAMA else "remove it in LM Studio",
        )
    raise NotFound(f"there is no {names[0]} in the stores here", hint="launcher ls")


def _with_last_use(model: StoredModel, used: Mapping[str, float]) -> StoredModel:
    # many file systems keep the time of last use to the day or not at all: a later `up` counts
    times = [used[path] for path in (str(path.resolve()) for path in model.paths) if path in used]
    return replace(model, used_at=max((model.used_at or 0.0, *times))) if times else model


def _is_called(name: str, wanted: str) -> bool:
    if name.startswith("/"):
        return name == file_key(Path(wanted))
    name, wanted = name.lower(), wanted.lower()
    return name == wanted or name.startswith(f"{wanted}:")


def _in_repo(folder: Path, store: HubStore) -> Iterator[StoredModel]:
    """List, of each commit, the quants that have a file here."""
    repo = folder.name.removeprefix("models--").replace("--", "/")
    partial = {path.name.removesuffix(".part"): path for path in entries(folder, "blobs/*.part")}
    commits = {path.name for path in entries(folder, "snapshots/*")}
    commits |= {commit for path in entries(folder, "refs/**/*") if (commit := read_ref(path))}
    commits |= {listing.commit for listing in store.listings(repo)} if partial else set()
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
            partial_paths = tuple(partial[sha256] for sha256 in hashes if sha256 in partial)
            if paths or partial_paths:
                claimed.update(partial_paths)
                size = group.size_bytes if listing or group.is_complete else None
                quant = QuantFiles(group=group, paths=paths, partial_paths=partial_paths)
                yield quant.stored_as(f"{repo}:{group.label}", HUB, folder, size)
    for path in sorted(set(partial.values()) - claimed):
        yield _without_listing(repo, path, folder)


def _without_listing(repo: str, part: Path, folder: Path) -> StoredModel:
    # all that is left of a partial file without a listing: the begin of its hash
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
    # named by their files
    folders = sorted(
        {path.parent for pattern in ("*.gguf", "*.gguf.part") for path in entries(root, f"**/{pattern}")}
    )
    for folder in folders:
        for quant in quants_in(folder):
            name = Path(quant.group.names[0]).name.removesuffix(".gguf")
            if store == LM_STUDIO:
                name = f"{folder.relative_to(root).as_posix()}:{quant.group.label}"
            with contextlib.suppress(OSError):
                yield quant.stored_as(name, store, root, quant.size_bytes)


def _in_ollama(folder: Path) -> Iterator[StoredModel]:
    # registry/namespace/name/tag, JSON with the model's digest
    for manifest in sorted(entries(folder / "manifests", "*/*/*/*")):
        try:  # a manifest that is not as we know them is left out
            text, _ = read_file(manifest, _MANIFEST_BYTES, owner=Owner.ANYONES)
            layers = parse_json(text)["layers"]
            model = next(layer for layer in layers if layer["mediaType"] == _OLLAMA_MODEL)
            blob = folder / "blobs" / str(model["digest"]).replace(":", "-")
            size = JsonObject(model).whole("size")
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
