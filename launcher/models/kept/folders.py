"""Folders that `--dir` and `--from` named: whose the models in them are, and how far they are looked through."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.models.kept.stored_model import OWN, YOURS, StoredModel, groups_in, kept_as, size_of
from launcher.models.store import HubStore, Owners, file_key
from launcher.models.transfer.journal import recorded_identity

_MOST_LEVELS, _MOST_SEEN = 4, 20_000  # of a named folder: a disk's root or a network's would take minutes


def named_folders(store: HubStore) -> list[Path]:
    """Those that are there; the others are forgotten."""
    gone = [folder for folder in store.folders() if not _is_folder(folder)]
    if gone:
        store.forget_folders(gone)
    return sorted(store.folders())


def in_folders(named: Collection[Path], theirs: Collection[Path], owners: Owners) -> Iterator[StoredModel]:
    """What is in the `named` folders, each file once, but in those of other stores (`theirs`): where files were put, however
    deep, and besides as far as `_below` looks."""
    seen: set[Path] = set()
    for folder in named:
        for place in _below(folder, {*theirs, *named}):
            seen.add(place)
            yield from _in_place(place, folder, owners)
    for place in sorted(owners.folders() - seen):
        if not {place, *place.parents} & {*theirs}:
            root = next((folder for folder in place.parents if folder in named), place)
            yield from (one for one in _in_place(place, root, owners) if one.store == OWN)


def is_put_there(paths: Sequence[Path], parts: Sequence[Path], owners: Owners) -> bool:
    """Whether launcher put all of these into a folder that was named: the store says so of these very files, or the
    journal of a partial one."""
    return all(owners.of(path) for path in paths) and all(recorded_identity(part) for part in parts)


def own_or(one: StoredModel, owners: Owners) -> StoredModel:
    """As a file of launcher's, by its path, where it was put into another program's folder with `--dir`."""
    if not is_put_there(one.paths, one.parts, owners):
        return one
    place = (*one.paths, *one.parts)[0].parent
    return replace(one, name=_name_by_path(one.paths, one.parts), store=OWN, folder=place)


def _in_place(place: Path, folder: Path, owners: Owners) -> Iterator[StoredModel]:
    """The groups of one folder in or below `folder`, with whose they are."""
    for group, paths, parts in groups_in(place):
        whose = OWN if is_put_there(paths, parts, owners) else YOURS
        with contextlib.suppress(OSError):
            yield kept_as(_name_by_path(paths, parts), group, whose, size_of(group), folder, paths, parts)


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


def _is_folder(path: Path) -> bool:
    """Also where another user's rights keep us from looking."""
    try:
        return path.is_dir()
    except OSError:
        return True
