"""Open models that are on this disk."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.gguf.file_names import FileGroup, group_files, model_name, shard_name
from launcher.gguf.model import Shard
from launcher.models.located import LocalFiles, Located
from launcher.models.ranged_headers import assemble, read_header
from launcher.models.saved import is_saved, read_saved
from launcher.system.settings import expand_home
from launcher.system.small_files import open_regular

_SLACK_BYTES = 1 << 20  # reading on costs little here, another round costs a parse


class FileSource:
    """A ByteSource over a local file."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, offset: int, length: int) -> bytes:
        # Opened for each read: there is nothing to close.
        try:
            with open_regular(self._path) as file:
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise explain_os_error(error, self._path) from error


def open_path(path: Path) -> Located:
    """Open a model: a .gguf file, any of its shards, a folder of one model, or saved headers.

    Raises NotFound (nothing there, a shard missing), NotAllowed (unreadable), UsageError and BadGguf (not a
    model).
    """
    path = expand_home(path).absolute()
    try:
        mode = path.stat().st_mode
        files = _folder_model(path) if stat.S_ISDIR(mode) else None
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint=f"ls {path.parent}") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    if files is None:
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is not a regular file", hint="name a .gguf file")
        if is_saved(path):
            return read_saved(path)
        files = _with_siblings(path)
    headers = []
    shards = []
    for file in files:
        source = FileSource(file, _size_of(file))
        headers.append(read_header(source, slack_bytes=_SLACK_BYTES))
        shards.append(Shard(name=file.name, size_bytes=source.size_bytes))
    return assemble(
        model_id=model_name(files[0].name),
        source=str(files[0]),
        shards=tuple(shards),
        read=tuple(headers),
        files=LocalFiles(paths=files),
    )


def _folder_model(folder: Path) -> tuple[Path, ...]:
    files = [(file.name, file.stat().st_size) for file in sorted(folder.iterdir()) if file.is_file()]
    groups = group_files(files)
    if not groups:
        raise NotFound(
            f"the folder {folder} has no .gguf model", hint="name the folder that holds the .gguf files"
        )
    if len(groups) > 1:
        raise UsageError(
            f"the folder {folder} has {len(groups)} models: {_some(groups)}",
            hint=f"launcher plan {shlex.quote(str(folder / groups[0].names[0]))}",
        )
    if not groups[0].is_complete:
        raise _missing(folder / groups[0].names[0], groups[0].n_missing, groups[0].first_missing)
    return tuple(folder / name for name in groups[0].names)


def _some(groups: tuple[FileGroup, ...]) -> str:
    names = [group.names[0] for group in groups[:4]]
    return ", ".join(names) + (", …" if len(groups) > len(names) else "")


def _with_siblings(path: Path) -> tuple[Path, ...]:
    shard = shard_name(path.name)
    if shard is None:
        return (path,)
    names = shard.all_names()
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise _missing(path, len(missing), missing[0])
    return tuple(path.with_name(name) for name in names)


def _missing(path: Path, n_missing: int, first: str) -> NotFound:
    more = f" and {n_missing - 1} more" if n_missing > 1 else ""
    return NotFound(
        f"{path.name} needs {first}{more} beside it, which {'are' if more else 'is'} missing",
        hint=f"put all shards into {path.parent}",
    )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise explain_os_error(error, path) from error


def explain_os_error(error: OSError, path: Path) -> LauncherError:
    if isinstance(error, PermissionError):
        return NotAllowed(f"{path} may not be read by this user", hint=f"ls -l {path}")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"there is no file {path}", hint=f"ls {path.parent}")
    return TryAgain(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}")
