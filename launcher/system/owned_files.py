"""Open what others may have planted: no link is followed, no pipe waited for, no stranger's file used."""

# The rule is the kernel's own for sticky folders (fs.protected_regular and fs.protected_symlinks,
# Documentation/admin-guide/sysctl/fs.rst), kept here because not every system has it switched on.

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SHARED = stat.S_ISVTX | stat.S_IWOTH  # like /tmp: all may write, each may remove only their own

_LINK = "it is a symbolic link, which is not followed"
_NO_FILE = "it is no regular file"
_NO_FOLDER = "it is a link or a file, and a folder is needed"
# What O_NOFOLLOW says of a link: ELOOP, on BSD EMLINK; O_NONBLOCK of a pipe or socket: ENXIO.
_REFUSALS = {errno.ELOOP: _LINK, errno.EMLINK: _LINK, errno.ENXIO: _NO_FILE}


class Owner(Enum):
    """Whose a file may be."""

    OURS = "ours"
    FOLDERS = "ours, root's, or that of the folder's owner, who may do anything there"
    ANYONES = "anyone's"


class NotOurs(OSError):
    """A file or folder that is another user's, a link, or of another kind; `strerror` says which."""

    def __init__(self, problem: str, path: Path | str) -> None:
        super().__init__(errno.EPERM, problem, str(path))


def open_file(
    path: Path | str,
    flags: int = os.O_RDONLY,
    *,
    owner: Owner = Owner.OURS,
    folder: int | None = None,
    mode: int = 0o600,
) -> int:
    """Open a regular file with one name, relative to the open `folder` if given; return its descriptor.

    With O_CREAT a new file gets `mode`, less the umask. Raises NotOurs, or OSError as open(2).
    """
    try:
        descriptor = _open(path, flags | _SAFELY, mode, folder)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise NotOurs(_REFUSALS[error.errno], path) from error
        raise
    try:
        _check(os.fstat(descriptor), path, folder, owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_file(
    path: Path | str, limit: int, *, owner: Owner = Owner.OURS, folder: int | None = None
) -> tuple[bytes, os.stat_result]:
    """Return a file of at most `limit` bytes, and its status. Raises NotOurs, OSError."""
    with os.fdopen(open_file(path, owner=owner, folder=folder), "rb", buffering=0) as file:
        about = os.fstat(file.fileno())
        if about.st_size > limit:  # before it is read: a sparse file costs its owner nothing
            raise NotOurs(f"it is larger than {limit} bytes", path)
        return file.read(limit), about


def write_file(folder: int, name: str, content: bytes, *, mode: int) -> None:
    """Replace a file in an open folder, all of it or nothing. Raises OSError."""
    temporary = f".new-{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextmanager
def opened_folder(path: Path, *, create: bool = False) -> Iterator[int]:
    """Yield a descriptor of a folder that is ours, root's, its parent's owner's, or shared like /tmp.

    With `create` make it if needed; inside a shared folder it is made shared too. Raises NotOurs, OSError.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, *_REFUSALS}:
            raise NotOurs(_NO_FOLDER, path) from error
        raise
    try:
        about, parent = os.fstat(descriptor), path.parent.stat()
        if about.st_uid not in {os.geteuid(), 0, parent.st_uid} and about.st_mode & _SHARED != _SHARED:
            raise NotOurs(f"it belongs to {user_name(about.st_uid)}", path)
        if create and about.st_uid == os.geteuid() and parent.st_mode & stat.S_ISVTX:
            os.fchmod(descriptor, 0o1777)  # past the umask: other users' files go there
        yield descriptor
    finally:
        os.close(descriptor)


def check_folders(root: Path, folder: Path) -> None:
    """Raise NotOurs if a folder below `root`, down to `folder`, is a link, a file or another user's.

    `root` itself is not looked at: the user named it. A folder that does not exist is fine.
    """
    for name in folder.relative_to(root).parts:
        root /= name
        try:
            about = root.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(about.st_mode):
            raise NotOurs(_NO_FOLDER, root)
        if about.st_uid not in {os.geteuid(), 0} and about.st_uid != _owner_of_new_files(root.parent):
            raise NotOurs(f"it belongs to {user_name(about.st_uid)}", root)


def check_begun(path: Path) -> None:
    """Raise NotOurs if there is a file that we did not begin: a link, or another user's. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        _check(path.lstat(), path, None, Owner.OURS)


def check_unchangeable(path: Path) -> None:
    """Raise NotOurs if others could change the file after it was verified. Raises OSError."""
    # The link itself counts too: whoever owns it can have it point elsewhere.
    link, about = path.lstat(), path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise NotOurs(_NO_FILE, path)
    strangers = {link.st_uid, about.st_uid} - {os.geteuid(), 0}
    if strangers and strangers != {_owner_of_new_files(path.parent)}:
        raise NotOurs(f"it belongs to {user_name(min(strangers))}, who can change it", path)
    if about.st_mode & stat.S_IWOTH and not _has_mode_of_new_files(about, path.parent):
        raise NotOurs("every user can change it", path)


def is_anybodys(folder: Path) -> bool:
    """Tell if every user can remove or exchange files in the folder: all may write, and it is not sticky."""
    try:
        about = folder.stat()
        return about.st_mode & _SHARED == stat.S_IWOTH and not _has_mode_of_new_files(about, folder)
    except OSError:
        return False


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return f"user {uid}"


def _open(path: Path | str, flags: int, mode: int, folder: int | None) -> int:
    if not flags & os.O_CREAT:
        return os.open(path, flags, dir_fd=folder)
    # Opened and created apart: in a sticky folder the kernel refuses O_CREAT on somebody else's file.
    for extra in (0, os.O_CREAT | os.O_EXCL):
        with contextlib.suppress(FileNotFoundError if not extra else FileExistsError):
            return os.open(path, flags & ~os.O_CREAT | extra, mode, dir_fd=folder)
    return os.open(path, flags & ~os.O_CREAT, dir_fd=folder)  # another process has just created it


def _check(about: os.stat_result, path: Path | str, folder: int | None, owner: Owner) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise NotOurs(_LINK if stat.S_ISLNK(about.st_mode) else _NO_FILE, path)
    if about.st_nlink > 1:  # a name that somebody gave to a file from elsewhere
        raise NotOurs("it is another name of a file elsewhere (a hard link)", path)
    if owner is Owner.ANYONES or about.st_uid == os.geteuid():
        return
    parent = Path(path).parent
    if owner is Owner.FOLDERS:
        above = parent.stat() if folder is None else os.fstat(folder)
        is_right = about.st_uid in {0, above.st_uid}
    else:
        is_right = folder is None and about.st_uid == _owner_of_new_files(parent)
    if not is_right:
        raise NotOurs(f"it belongs to {user_name(about.st_uid)}", path)


def _owner_of_new_files(folder: Path) -> int | None:
    # Some file systems give all files one owner (FAT, drvfs) or map root to nobody (NFS).
    new = _status_of_new_file(folder)
    return None if new is None else new.st_uid


def _has_mode_of_new_files(about: os.stat_result, folder: Path) -> bool:
    # Some file systems know no modes, and show all as 0777; on one that is read-only modes mean nothing.
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return True
    new = _status_of_new_file(folder)
    return new is not None and bool(new.st_mode & about.st_mode & stat.S_IWOTH)


def _status_of_new_file(folder: Path) -> os.stat_result | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno())
    except OSError:
        return None
