"""Remove a model from a store. What others use stays, and so do the user's own files."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from launcher.errors import TryAgain, UsageError
from launcher.models.files.place import linked_blob
from launcher.models.files.plain_folder import lock_path_of
from launcher.models.kept.folders import is_put_there
from launcher.models.kept.stored_model import HUB, StoredModel, entries, read_ref
from launcher.models.store import HubStore
from launcher.models.transfer.partial_file import remove_partial_file
from launcher.system.locks import exclusive_if_free
from launcher.system.owned_files import check_folders


def remove_stored(model: StoredModel, store: HubStore) -> int:
    """Remove the model; return the bytes freed.

    Raises TryAgain while it is downloaded, UsageError if a file of the user's has taken its place, OSError.
    """
    with contextlib.ExitStack() as held:
        for path in (*model.parts, *(model.paths if model.is_by_path else ())):
            lock = _lock_of(path, model)
            if model.is_by_path:  # others may write to such a folder
                check_folders(path.parent, lock.parent)
            if not held.enter_context(exclusive_if_free(lock)):
                raise TryAgain(
                    f"{model.name} is being downloaded", hint="end that download, then run it again"
                )
        if model.is_by_path and not is_put_there(model.paths, model.parts, store.owners()):
            raise UsageError(f"{model.name} is not what launcher put there any more", hint="launcher ls")
        names = [_name_in_store(path, model.folder) for path in model.paths]
        freed = sum(_remove_partial(_name_in_store(part, model.folder)) for part in model.parts)
        blobs = {blob for name in names if (blob := _behind(name, model)) is not None}
        for name in names:
            if name not in blobs:
                name.unlink(missing_ok=True)
        used = {_behind(path, model) for path in _pointers(model.folder)} if model.store == HUB else set()
        freed += sum(_unlink(blob) for blob in sorted(blobs - used))
    if model.is_by_path:
        store.forget_owners(model.paths)
    _tidy(model)
    return freed


def _lock_of(path: Path, model: StoredModel) -> Path:
    # held by whoever fills the file; `path` may be its partial file
    name = path.name.removesuffix(".part")
    if model.store == HUB:  # the Hub's layout: CACHE/.locks/models--o--r/HASH.lock
        return model.folder.parent / ".locks" / model.folder.name / f"{name}.lock"
    return lock_path_of(path.with_name(name))


def _pointers(folder: Path) -> list[Path]:
    return [path for path in entries(folder, "snapshots/**/*") if path.is_symlink()]


def _name_in_store(path: Path, root: Path) -> Path:
    """Return the name to remove: of a file in a linked folder, whose target is the user's, the link."""
    above = [folder for folder in path.parents if root in folder.parents]
    return next((folder for folder in reversed(above) if folder.is_symlink()), path)


def _behind(path: Path, model: StoredModel) -> Path | None:
    """Return the blob that a snapshot's link names, or the file itself; None if the link points elsewhere."""
    if model.store == HUB and path.is_symlink():
        return linked_blob(path, model.folder / "blobs")
    return path if os.path.lexists(path) else None


def _remove_partial(part: Path) -> int:
    freed = 0 if part.is_symlink() or not part.exists() else part.stat().st_blocks * 512
    remove_partial_file(part)
    return freed


def _unlink(blob: Path) -> int:
    try:
        about = blob.lstat()
        blob.unlink()
    except FileNotFoundError:
        return 0
    # nothing for a link to another program's file, or for a file with another name
    return about.st_size if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 else 0


def _tidy(model: StoredModel) -> None:
    """Remove folders that became empty, and names of commits without files."""
    root = model.folder
    if model.store != HUB:  # a lock stays, and its folder: a pull may hold it by now
        above = {folder for path in (*model.paths, *model.parts) for folder in path.parents}
        for folder in sorted((folder for folder in above if root in folder.parents), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return
    # deepest first, so that what becomes empty by it goes too
    for folder in sorted((path for path in entries(root, "**/*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    for ref in entries(root, "refs/**/*"):
        commit = read_ref(ref)
        if commit and _name_in_store(ref, root) == ref and not (root / "snapshots" / commit).exists():
            ref.unlink(missing_ok=True)
    for folder in (root / "refs", root):
        with contextlib.suppress(OSError):
            folder.rmdir()
