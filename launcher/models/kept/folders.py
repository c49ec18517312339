"""The folders that `--dir` and `--from` named, and their models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.models.kept.stored_model import OWN, YOURS, StoredModel, quants_in
from launcher.models.store import HubStore, Owners, file_key
from launcher.models.transfer.journal import journal_path, recorded_identity
from launcher.system.owned_files import check_begun

_MOST_LEVELS, _MOST_SEEN = 4, 20_000  # of a named folder: a disk's root or a network's would take minutes


def named_folders(store: HubStore) -> list[Path]:
    """Return the named folders that exist, and forget the others."""
    gone = [folder for folder in store.folders() if not _is_folder(folder)]
    if gone:
        store.forget_folders(gone)
    return sorted(store.folders())


def in_folders(
    named: Collection[Path], other_stores: Collection[Path], owners: Owners
) -> Iterator[StoredModel]:
    """List the models in the named folders, each file once, without other stores."""
    seen: set[Path] = set()
    for root in named:
        for folder in _below(root, {*other_stores, *named}):
            seen.add(folder)
            yield from _in_folder(folder, root, owners)
    # folders that files were put into count however deep they are
    for folder in sorted(owners.folders() - seen):
        if not {folder, *folder.parents} & {*other_stores}:
            root = next((above for above in folder.parents if above in named), folder)
            yield from (model for model in _in_folder(folder, root, owners) if model.store == OWN)


def is_put_there(paths: Sequence[Path], partial_paths: Sequence[Path], owners: Owners) -> bool:
    # the store says so of these very files, and its journal of a partial file
    return all(owners.of(path) for path in paths) and all(map(_is_begun_here, partial_paths))


def owned_by_launcher(model: StoredModel, owners: Owners) -> StoredModel:
    """Return a model as launcher's if `--dir` put it into another program's folder."""
    if not is_put_there(model.paths, model.parts, owners):
        return model
    folder = (*model.paths, *model.parts)[0].parent
    return replace(model, name=_name_by_path(model.paths, model.parts), store=OWN, folder=folder)


def _is_begun_here(partial_path: Path) -> bool:
    try:
        for path in (partial_path, journal_path(partial_path)):
            check_begun(path)
    except OSError:  # another user's: in a folder that others write to, a journal may say anything
        return False
    return recorded_identity(partial_path) is not None


def _in_folder(folder: Path, root: Path, owners: Owners) -> Iterator[StoredModel]:
    for quant in quants_in(folder):
        store = OWN if is_put_there(quant.paths, quant.partial_paths, owners) else YOURS
        with contextlib.suppress(OSError):
            name = _name_by_path(quant.paths, quant.partial_paths)
            yield quant.stored_as(name, store, root, quant.size_bytes)


def _name_by_path(paths: Sequence[Path], partial_paths: Sequence[Path]) -> str:
    names = [*paths, *(path.with_name(path.name.removesuffix(".part")) for path in partial_paths)]
    return file_key(min(names))


def _below(root: Path, others: Collection[Path]) -> Iterator[Path]:
    """Yield `root` and folders below it that have model files, up to the limits above."""
    # hidden folders, caches of the Hub and `others` are left out
    n_seen, level = 0, [root]
    for _ in range(_MOST_LEVELS):
        below: list[Path] = []
        for folder in level:
            has_models = False
            with contextlib.suppress(OSError), os.scandir(folder) as scanned:
                for entry in scanned:
                    n_seen += 1
                    if n_seen > _MOST_SEEN:
                        break
                    has_models = has_models or entry.name.endswith((".gguf", ".gguf.part"))
                    if not entry.name.startswith((".", "models--")) and entry.is_dir(follow_symlinks=False):
                        below.append(Path(entry.path))
            if has_models:
                yield folder
            if n_seen > _MOST_SEEN:
                return
        level = sorted(folder for folder in below if folder not in others)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # another user's rights keep us from looking: it may be there
        return True
