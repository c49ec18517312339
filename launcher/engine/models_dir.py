"""List the models of a folder as llama-server does (load_from_models_dir, common/preset.cpp)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from launcher.engine.flags.preset_ini import MOST_SECTIONS
from launcher.engine.flags.router_lines import ModelFiles
from launcher.errors import NotFound, UsageError

_MOST_ENTRIES = 4096  # of one folder
_DRAFTS = ("mtp-", "dspark-", "dflash-")
_SHARD = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


def list_models_dir(folder: Path) -> tuple[tuple[ModelFiles, ...], tuple[str, ...]]:
    """Return the models of a folder, and a note for what llama-server lists and cannot load.

    Raises NotFound if there is no such folder, UsageError if it cannot be read or has too much in it.
    """
    models: dict[str, ModelFiles] = {}
    notes: list[str] = []
    for entry in _entries(folder):
        if _is(entry.is_dir):
            found = _model_in(Path(entry.path), notes)
        elif _is(entry.is_file) and _is_model(entry.name):
            shard = _SHARD.search(entry.name)
            if shard is not None and shard[1] != "00001":
                notes.append(f"{entry.name} is listed as a model and is none: a split model needs a folder")
                continue
            found = ModelFiles(name=entry.name.replace(".gguf", ""), model=entry.path)
        else:
            continue
        if found is not None:
            models[found.name] = found
    if len(models) > MOST_SECTIONS:
        raise UsageError(
            f"{folder} has {len(models)} models, and {MOST_SECTIONS} are the most that are checked",
            hint="check some of them: launcher check -- llama-server --models-preset FILE",
        )
    return tuple(models.values()), tuple(notes)


def _model_in(folder: Path, notes: list[str]) -> ModelFiles | None:
    """Return the model of a sub-folder: its first shard, else the file that the folder lists last."""
    files = [entry for entry in _entries(folder) if entry.name.endswith(".gguf") and _is(entry.is_file)]
    projectors = [entry.path for entry in files if "mmproj" in entry.name]
    drafts = [entry.path for entry in files if _is_draft(entry.name) and "mmproj" not in entry.name]
    plain = [entry.path for entry in files if _is_model(entry.name)]
    shards = [path for path in plain if "-00001-of-" in path.rpartition("/")[2]]
    single = [path for path in plain if path not in shards]
    if not plain:
        return None
    if len(shards or single) > 1:
        notes.append(f"{folder.name} has {len(shards or single)} models: llama-server takes one, in no order")
    return ModelFiles(
        name=folder.name,
        model=shards[-1] if shards else single[-1],
        projector=projectors[-1] if projectors else None,
        draft=drafts[0] if drafts else None,
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = list(islice(entries, _MOST_ENTRIES + 1))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no folder {folder}", hint=f"ls {folder.parent}") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}", hint=f"ls -ld {folder}") from error
    if len(found) > _MOST_ENTRIES:
        raise UsageError(f"{folder} has more than {_MOST_ENTRIES} entries", hint=f"ls {folder}")
    yield from found


def _is(kind: Callable[[], bool]) -> bool:
    """Tell if an entry is of a kind; a link that leads to itself is of none."""
    try:
        return kind()
    except OSError:
        return False


def _is_draft(name: str) -> bool:
    return name.startswith(_DRAFTS)


def _is_model(name: str) -> bool:
    return name.endswith(".gguf") and "mmproj" not in name and not _is_draft(name)
