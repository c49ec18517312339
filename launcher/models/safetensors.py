"""Read what safetensors say of their model: config.json, and how many bytes the weights have."""

from __future__ import annotations

import stat
from pathlib import Path

from launcher.errors import NotFound, UsageError
from launcher.models.hub.api import ask_commit, ask_files, ask_json
from launcher.models.hub.endpoint import Endpoint
from launcher.models.refs import safe_file_name
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.small_files import read_small

_CONFIG = "config.json"
_ONE_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SAME_AGAIN = "consolidated"
_MOST_CONFIG = 1 << 20
_MOST_INDEX = 64 << 20  # Kimi K2.5's has 207,000 tensors and 24 MB
_MOST_FILES = 100_000


def read_folder(folder: Path) -> tuple[object, int]:
    """Return the config and the bytes of all weights. Raises NotFound, UsageError."""
    config = _read(folder / _CONFIG, _MOST_CONFIG)
    index = folder / _INDEX
    names = _files_of(index) if index.exists() else {_ONE_FILE}
    try:
        sizes = sum(_size_of(folder / name) for name in names)
    except OSError as error:
        raise NotFound(
            f"{folder} lacks {Path(str(error.filename)).name}, which its index names",
            hint="fetch it again: all files of its repo belong together",
        ) from error
    return config, sizes


def read_repo(repo: str, endpoint: Endpoint) -> tuple[object, int]:
    """Return the config and the bytes of all weights of a repo on the Hub, as its listing states them.

    Raises NotFound, NotAllowed, TryAgain.
    """
    commit = ask_commit(repo, "main", endpoint)
    files = ask_files(repo, commit, endpoint, suffix=".safetensors")
    # Some repos have their weights twice: as one file, or in a folder.
    sizes = [
        file.size_bytes for file in files if "/" not in file.name and not file.name.startswith(_SAME_AGAIN)
    ]
    if not sizes:
        raise NotFound(f"{repo} has no safetensors", hint="name a repo, as Qwen/Qwen3-8B is one")
    return ask_json(repo, commit, _CONFIG, _MOST_CONFIG, endpoint), sum(sizes)


def _size_of(path: Path) -> int:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{path} is no regular file", hint="fetch it again")
    return about.st_size


def _files_of(index: Path) -> set[str]:
    """Return the files that an index names."""
    try:
        by_tensor = JsonObject(_read(index, _MOST_INDEX)).object_at("weight_map").texts_by_key()
    except Malformed as error:
        raise UsageError(f"{index} cannot be used: {error}", hint="fetch it again") from error
    names = set(by_tensor.values())
    wrong = next((name for name in sorted(names) if safe_file_name(name) is not None or "/" in name), None)
    if wrong is not None or not 0 < len(names) <= _MOST_FILES:
        problem = f"{len(names)} files" if wrong is None else f"the file {wrong[:80]!r}"
        raise UsageError(f"{index} names {problem}", hint="fetch it again")
    return names


def _read(path: Path, most_bytes: int) -> object:
    try:
        return parse_json(read_small(path, most_bytes))
    except FileNotFoundError:
        raise NotFound(
            f"there is no {path.name} in {path.parent}", hint="name a folder with a model in safetensors"
        ) from None
    except (OSError, Malformed) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="fetch it again") from error
