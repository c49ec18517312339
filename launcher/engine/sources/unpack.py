"""Unpack an archive that a stranger has made: nothing of it leaves its folder, and everything is bounded.

Python's own filter for archives (PEP 706) is asked too where it exists; the bounds and the order are ours:
files first, each made new, then links, so that nothing is ever written through a link of the archive.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from launcher.errors import UsageError
from launcher.system.packages import sha256_of
from launcher.system.zip_entries import DAMAGE, is_plain
from launcher.units import GIB, MIB, format_bytes, printable

_DAMAGE = (*DAMAGE, tarfile.TarError, gzip.BadGzipFile, OverflowError)
_CHUNK = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """What one archive may hold."""

    entries: int = 5_000
    depth: int = 8
    name_bytes: int = 200  # of one part of a path
    total_bytes: int = 8 * GIB
    # programs and libraries compress to a third; zeros to a thousandth
    ratio: int = 30
    least_bytes: int = 64 * MIB  # below this no ratio counts


LIMITS = UnpackLimits()


class _RefusedError(Exception):
    """What the archive holds is not taken; the text says what, for a sentence."""


def unpack_all(archives: Iterable[Path], target: Path) -> None:
    """Unpack each archive into a folder of its own below `target`. Raises as `unpack_archive`."""
    for number, archive in enumerate(archives):
        unpack_archive(archive, target / str(number))


def unpack_archive(archive: Path, target: Path, limits: UnpackLimits = LIMITS) -> None:
    """Unpack a .tar.gz or .zip into the new folder `target`.

    Raises UsageError for an archive that is damaged, or holds what it must not; OSError of the disk.
    """
    allowed = min(limits.total_bytes, max(limits.least_bytes, archive.stat().st_size * limits.ratio))
    gate = _Gate(target=target, limits=limits, allowed=allowed)
    target.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, gate)
        else:
            _unpack_tar(archive, gate)
        gate.make_links()
    except _RefusedError as error:
        raise UsageError(
            f"{archive.name} is not unpacked: {error}", hint="take another one: launcher engine install"
        ) from None
    except _DAMAGE as error:
        words = printable(str(error)[:200])
        raise UsageError(
            f"{archive.name} is damaged: {words}",
            hint="name a whole .tar.gz or .zip, or launcher engine install",
        ) from error


@dataclass(slots=True)
class _Gate:
    """What has come out of one archive, and whether the next entry may."""

    target: Path
    limits: UnpackLimits
    allowed: int
    n_bytes: int = 0
    n_entries: int = 0
    seen: set[PurePosixPath] = field(default_factory=set)
    links: list[tuple[PurePosixPath, str]] = field(default_factory=list)

    def path_of(self, name: str) -> PurePosixPath:
        """Return an entry's path, relative and inside. Raises _RefusedError."""
        self.n_entries += 1
        if self.n_entries > self.limits.entries:
            raise _RefusedError(f"it has more than {self.limits.entries} entries")
        path = PurePosixPath(name)
        shown = printable(name[:80])
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise _RefusedError(f"its entry {shown} would leave the folder")
        if not path.parts or not name.isprintable():
            raise _RefusedError(f"its entry {shown!r} is no name of a file")
        if len(path.parts) > self.limits.depth:
            raise _RefusedError(f"its entry {shown} lies {len(path.parts)} folders deep")
        if any(len(os.fsencode(part)) > self.limits.name_bytes for part in path.parts):
            raise _RefusedError(f"its entry {shown}… has too long a name")
        return path

    def write(self, path: PurePosixPath, content: IO[bytes], *, executable: bool) -> None:
        """Make a new file; its bytes count as they come, whatever the archive says of its size."""
        if path in self.seen:
            raise _RefusedError(f"it has two entries {path}")
        self.seen.add(path)
        place = self._make_parent(path)
        mode = 0o755 if executable else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(place, flags, mode)
        except (FileExistsError, IsADirectoryError):
            raise _RefusedError(f"it has two entries {path}") from None
        with os.fdopen(descriptor, "wb") as file:
            while chunk := content.read(_CHUNK):
                self.count(len(chunk))
                file.write(chunk)
            os.fchmod(file.fileno(), mode)  # past the umask: executable or not is all that counts

    def count(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.n_bytes > self.allowed:
            raise _RefusedError(f"it unpacks to more than {format_bytes(self.allowed)}")

    def link(self, path: PurePosixPath, to: str) -> None:
        """Note a symbolic link; it is made when all files are there."""
        inside = PurePosixPath(os.path.normpath(path.parent / to))
        if not to or PurePosixPath(to).is_absolute() or ".." in inside.parts or not to.isprintable():
            raise _RefusedError(f"its link {path} leads out of the folder")
        if path in self.seen:
            raise _RefusedError(f"it has two entries {path}")
        self.seen.add(path)
        self.links.append((path, to))

    def same_file(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """Copy a file that came before under another name (a hard link)."""
        if other not in self.seen or not (self.target / other).is_file():
            raise _RefusedError(f"its hard link {path} leads to no file before it")
        with (self.target / other).open("rb") as content:
            self.write(path, content, executable=bool((self.target / other).stat().st_mode & stat.S_IXUSR))

    def make_links(self) -> None:
        for path, to in self.links:
            place = self._make_parent(path)
            if place.exists():
                raise _RefusedError(f"it has two entries {path}")
            place.symlink_to(to)
        for path, _ in self.links:
            # a chain of links may lead where none of them does
            place = self.target / path
            try:
                is_file = place.resolve(strict=True).is_relative_to(self.target.resolve()) and place.is_file()
            except (OSError, RuntimeError):
                is_file = False
            if not is_file:
                raise _RefusedError(f"its link {path} leads to no file in it")

    def _make_parent(self, path: PurePosixPath) -> Path:
        place = self.target / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _RefusedError(f"its entry {path} lies in a file") from None
        return place


class _Bounded:
    """The decompressed bytes of a tar archive, as tarfile reads them: never many at once, never too many."""

    # tarfile reads a header's extended fields whole, however large the archive says they are
    def __init__(self, file: gzip.GzipFile, gate: _Gate) -> None:
        self._file, self._gate, self._at = file, gate, 0

    def read(self, n_bytes: int = -1) -> bytes:
        if not 0 <= n_bytes <= _CHUNK:
            raise _RefusedError("the header of an entry is larger than any that is needed")
        data = self._file.read(n_bytes)
        self._at += len(data)
        if self._at > self._gate.allowed + self._gate.limits.entries * 4096:
            raise _RefusedError(f"it unpacks to more than {format_bytes(self._gate.allowed)}")
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, _whence: int = 0) -> int:
        while self._at < position:
            if not self.read(min(_CHUNK, position - self._at)):
                raise EOFError("it ends in the middle of a file")
        if self._at != position:
            raise _RefusedError("it has to be read twice")
        return self._at


def _unpack_tar(archive: Path, gate: _Gate) -> None:
    with gzip.open(archive, "rb") as plain:
        stream = _Bounded(plain, gate)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for member in _members(tar):
                _take_member(tar, member, gate)
        while plain.read(_CHUNK):  # to the end: gzip's own checksum is there
            pass


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined] # tarfile keeps them all
        yield member


def _take_member(tar: tarfile.TarFile, member: tarfile.TarInfo, gate: _Gate) -> None:
    path = gate.path_of(member.name)
    if hasattr(tarfile, "data_filter"):
        try:
            tarfile.data_filter(member, str(gate.target))
        except tarfile.FilterError as error:
            raise _RefusedError(f"{error}") from None
    if member.isdir():
        return
    if member.issym():
        gate.link(path, member.linkname)
    elif member.islnk():
        gate.same_file(path, PurePosixPath(member.linkname))
    elif member.isreg() and not member.issparse():
        content = tar.extractfile(member)
        if content is not None:
            gate.write(path, content, executable=bool(member.mode & stat.S_IXUSR))
            if (gate.target / path).stat().st_size != member.size:
                raise EOFError(f"it ends in the middle of {path}")
    else:
        raise _RefusedError(f"its entry {path} is neither a file, a folder nor a link")


def _unpack_zip(archive: Path, gate: _Gate) -> None:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            path = gate.path_of(info.filename)
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                raise _RefusedError(f"its entry {path} is neither a file nor a folder")
            if not is_plain(info):
                raise _RefusedError(f"its entry {path} is compressed by method {info.compress_type}")
            with opened.open(info) as content:
                gate.write(path, content, executable=bool(mode & stat.S_IXUSR))


def link_copies(folder: Path) -> None:
    """Make of files with the same content one file and links to it, as libraries usually lie.

    A wheel has no links: it holds libllama.so, .so.0 and .so.0.1.0 as three copies.
    """
    by_size: dict[int, list[Path]] = {}
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and ".so" in path.name:
            by_size.setdefault(path.stat().st_size, []).append(path)
    for paths in by_size.values():
        first: dict[str, Path] = {}
        for path in sorted(paths, key=lambda each: len(each.name), reverse=True) if len(paths) > 1 else ():
            whole = first.setdefault(sha256_of(path), path)
            if whole != path:
                path.unlink()
                path.symlink_to(whole.name)
