"""Write and read a bundle's file: a tar of plain files without compression, the manifest last.

Any tar lists and unpacks it. Launcher reads less than tar does: headers of 512 bytes (ustar, sizes in GNU's
base 256), regular files under known names, and nothing else, so that no header makes work or leads anywhere.
The same files make the same bytes, so a file that was begun is gone on with: its bytes are compared with
those to write until they differ.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from launcher.commands.bundle.manifest import (
    MANIFEST,
    MOST_FILES,
    BundledFile,
    Manifest,
    is_file_name,
    most_bytes,
    parse_manifest,
)
from launcher.errors import HashMismatch, UsageError
from launcher.system.small_files import open_regular

_BLOCK = 512
_END = bytes(2 * _BLOCK)
CHUNK = 4 << 20

OnBytes = Callable[[int], None]


class Continued:
    """A file that is written from its start, over what it may hold of the same bytes already."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._there = os.fstat(file.fileno()).st_size
        self.position = 0

    def put(self, data: bytes) -> None:
        """Have these bytes next. Raises OSError."""
        if self.position + len(data) <= self._there:
            self._file.seek(self.position)
            if self._file.read(len(data)) == data:
                self.position += len(data)
                return
        if self._there:  # other bytes, or too few: from here on all is new
            self._file.truncate(self.position)
            self._there = 0
        self._file.seek(self.position)
        self._file.write(data)
        self.position += len(data)

    def finish(self) -> None:
        """Cut what is beyond, and have all of it on the disk."""
        self._file.truncate(self.position)
        self._file.flush()
        os.fsync(self._file.fileno())


class ArchiveWriter:
    """The file of a bundle as it is written: hashed on the way."""

    def __init__(self, file: BinaryIO, on_bytes: OnBytes) -> None:
        self._out = Continued(file)
        self._on_bytes = on_bytes
        self.files: list[BundledFile] = []

    def add_file(self, name: str, path: Path, expected: str | None = None) -> None:
        """Add a file. Raises OSError, HashMismatch if it does not have the `expected` sha256."""
        with open_regular(path) as content:
            size = os.fstat(content.fileno()).st_size
            added = self._add(name, size, iter(lambda: content.read(CHUNK), b""))
        if expected is not None and added.sha256 != expected:
            raise HashMismatch(
                f"{path} has sha256 {added.sha256}, and {expected} was expected: it is damaged",
                hint="launcher pull --verify fetches it again",
            )

    def add_bytes(self, name: str, content: bytes) -> None:
        self._add(name, len(content), iter((content,)))

    def end(self, manifest: bytes) -> None:
        """Add the manifest, and end the file."""
        self._add(MANIFEST, len(manifest), iter((manifest,)))
        self._out.put(_END)
        self._out.finish()

    def _add(self, name: str, size: int, chunks: Iterator[bytes]) -> BundledFile:
        if not is_file_name(name) or size > most_bytes(name):
            raise UsageError(f"{name} ({size} bytes) cannot go into a bundle", hint="rename the file")
        self._out.put(_header(name, size))
        digest, done = hashlib.sha256(), 0
        for chunk in chunks:
            self._out.put(chunk)
            digest.update(chunk)
            done += len(chunk)
            self._on_bytes(len(chunk))
        if done != size:
            raise UsageError(f"{name} changed while it was read", hint="run it again when nobody writes it")
        self._out.put(bytes(-size % _BLOCK))
        added = BundledFile(name=name, size_bytes=size, sha256=digest.hexdigest())
        self.files.append(added)
        return added


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's file that is whole by its headers; what is in its files has not been looked at."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    offsets: dict[str, int]

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield what the file holds under this name, to the end.

        Raises OSError, UsageError if it has become shorter, HashMismatch at the end if it is damaged.
        """
        expected, digest = self.manifest.by_name[name], hashlib.sha256()
        with open_regular(self.path) as file:
            file.seek(self.offsets[name])
            for chunk in _chunks(file, expected.size_bytes, self.path):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != expected.sha256:
            raise HashMismatch(
                f"{name} in {self.path} has sha256 {digest.hexdigest()}, and its manifest says "
                f"{expected.sha256}: it is damaged",
                hint="copy the bundle again",
            )

    def content(self, name: str) -> bytes:
        """Return a small file, as `chunks` yields it."""
        return b"".join(self.chunks(name))


def read_bundle(path: Path) -> Bundle:
    """Read headers and manifest. Raises UsageError for a file that is no bundle, or not all of one."""
    try:
        with open_regular(path) as file:
            return _read(path, file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    except (ValueError, RecursionError, tarfile.TarError) as error:
        raise UsageError(
            f"{path} is no bundle: {error}", hint="launcher bundle REF FILE makes one; copy it again"
        ) from error


def _read(path: Path, file: BinaryIO) -> Bundle:
    size = os.fstat(file.fileno()).st_size
    sizes: dict[str, int] = {}
    offsets: dict[str, int] = {}
    position = 0
    while MANIFEST not in sizes:
        if len(sizes) > MOST_FILES:
            raise ValueError(f"it has more than {MOST_FILES} files")
        file.seek(position)
        name, n_bytes = _read_header(file.read(_BLOCK))
        if name in sizes:
            raise ValueError(f"it has two files {name}")
        offsets[name], sizes[name] = position + _BLOCK, n_bytes
        position += _BLOCK + n_bytes + -n_bytes % _BLOCK
        if position + len(_END) > size:
            raise ValueError(f"it ends after {size} bytes, in the middle of {name}")
    if position + len(_END) != size:
        raise ValueError(f"{size - position - len(_END)} bytes follow its manifest")
    file.seek(offsets[MANIFEST])
    text = file.read(sizes.pop(MANIFEST))
    manifest = parse_manifest(text)
    if sizes != {each.name: each.size_bytes for each in manifest.files}:
        raise ValueError("its files are not those of its manifest")
    return Bundle(
        path=path,
        manifest=manifest,
        manifest_sha256=hashlib.sha256(text).hexdigest(),
        offsets=offsets,
    )


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _read_header(block: bytes) -> tuple[str, int]:
    """Return name and size of a file. Raises ValueError or TarError for any other entry."""
    if len(block) < _BLOCK or not any(block):
        raise ValueError("it ends without a manifest")
    entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    if entry.type != tarfile.REGTYPE or entry.linkname:
        raise ValueError(f"its entry {entry.name[:80]!r} is no plain file")
    if not is_file_name(entry.name):
        raise ValueError(f"its entry {entry.name[:80]!r} is no file of a bundle")
    if not 0 <= entry.size <= most_bytes(entry.name):
        raise ValueError(f"its entry {entry.name} has {entry.size} bytes")
    return entry.name, entry.size


def _chunks(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            raise UsageError(f"{path} has become shorter while it was read", hint="copy the bundle again")
        size -= len(chunk)
        yield chunk
