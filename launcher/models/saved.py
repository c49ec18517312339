"""Keep a model's headers in a zip, to plan offline what is elsewhere."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from launcher.errors import BadGguf, TryAgain, UsageError
from launcher.gguf.file_names import MAX_SHARDS
from launcher.gguf.header import MAX_HEADER_BYTES, Header
from launcher.gguf.model import Shard
from launcher.models.located import Located, SavedHeaders
from launcher.models.ranged_headers import assemble, read_header
from launcher.models.refs import safe_file_name
from launcher.system.atomic_files import replacing
from launcher.system.json_object import parse_json
from launcher.system.small_files import open_regular
from launcher.system.zip_entries import DAMAGE, is_plain
from launcher.units import one_line

_FORMAT = "gguf-launcher headers 1"
_MAX_JSON_BYTES = 1 << 20  # 2000 shards with their names and digests are a quarter of it
_MAX_TOTAL_BYTES = 2 * MAX_HEADER_BYTES  # one shard has the tokenizer, the others a few KB each
_MAX_DIRECTORY_BYTES = 128 * (MAX_SHARDS + 1)  # an entry of ours has 46 bytes and a name of 12
_MAX_FILE_BYTES = _MAX_TOTAL_BYTES + _MAX_JSON_BYTES + 2 * _MAX_DIRECTORY_BYTES  # nothing is compressed
_MAX_SIZE = (1 << 63) - 1  # off_t
_MAX_LINE = 4096  # characters of a model's id or source
_SHA256 = re.compile(r"[0-9a-f]{64}")
_END = struct.Struct("<4s4H2LH")  # end of central directory record (APPNOTE.TXT, 4.3.16)
_ZIP64_LOCATOR_BYTES = 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same headers make the same file


def is_saved(path: Path) -> bool:
    """Return True if the file begins as a zip archive does; no GGUF file can."""
    try:
        with open_regular(path) as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def save_headers(located: Located, path: Path) -> Path:
    """Write the headers of a model to `path`, whole or not at all. Raises UsageError."""
    description = {
        "format": _FORMAT,
        "model_id": located.model.model_id,
        "source": located.model.source,
        "shards": [
            {"name": shard.name, "size_bytes": shard.size_bytes, "sha256": shard.sha256}
            for shard in located.model.shards
        ],
    }
    members = [("model.json", json.dumps(description, indent=1).encode())]
    members += [(_member(index), raw) for index, raw in enumerate(located.raw_headers)]
    try:
        with replacing(path) as file:
            _write_zip(file, members)
    except OSError as error:
        raise UsageError(
            f"the headers cannot be written to {path}: {error.strerror}",
            hint="name a file in a folder of yours",
        ) from error
    return path


def _member(index: int) -> str:
    return f"header-{index + 1:05d}"


def _write_zip(file: BinaryIO, members: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            info = zipfile.ZipInfo(member, date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(file.fileno(), 0o666 & ~umask)  # for others too, as any file that a user asks for


def read_saved(path: Path) -> Located:
    """Read what `save_headers` wrote. Raises BadGguf for any other archive."""
    # nothing is trusted: names, sizes and headers are checked again
    try:
        with open_regular(path) as file:
            _check_directory(file, path)
            with zipfile.ZipFile(file) as archive:
                _check_sizes(archive, path, os.fstat(file.fileno()).st_size)
                description = _read_json(archive, path)
                shards = tuple(_shard(item, path) for item in description["shards"])
                _check_members(archive, path, shards)
                read = tuple(_read_member(archive, index, shard) for index, shard in enumerate(shards))
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset that no file has
            raise _not_ours(path, "it is damaged") from error
        raise TryAgain(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    except DAMAGE as error:
        raise _not_ours(path, str(error)) from error
    return assemble(
        model_id=description["model_id"],
        source=description["source"],
        shards=shards,
        read=read,
        files=SavedHeaders(path=path),
    )


class _Member:
    """A `ByteSource` over a raw header, which is unpacked as far as it is read."""

    def __init__(self, file: IO[bytes], shard: Shard) -> None:
        self._file = file
        self.name = shard.name
        self.size_bytes: int | None = shard.size_bytes  # of the whole file, whose weights are elsewhere

    def read(self, offset: int, length: int) -> bytes:
        if offset != self._file.tell():
            self._file.seek(offset)
        return self._file.read(length)


def _read_member(archive: zipfile.ZipFile, index: int, shard: Shard) -> tuple[Header, bytes]:
    with archive.open(_member(index)) as file:
        return read_header(_Member(file, shard), slack_bytes=MAX_HEADER_BYTES)


def _check_directory(file: BinaryIO, path: Path) -> None:
    """Raise BadGguf unless the archive and its directory are small enough for zipfile to open."""
    # zipfile reads the whole directory, as large as the last record says, before anything can be asked
    size = os.fstat(file.fileno()).st_size
    if size > _MAX_FILE_BYTES:
        raise _not_ours(path, f"it has {size} bytes, more than {_MAX_FILE_BYTES}")
    tail = _ZIP64_LOCATOR_BYTES + _END.size
    file.seek(max(0, size - tail))
    locator, record = (read := file.read(tail))[: -_END.size], read[-_END.size :]
    if len(read) < tail or record[:4] != b"PK\x05\x06":
        raise _not_ours(path, "it does not end as it should")
    _, _, _, _, n_members, directory_bytes, _, _ = _END.unpack(record)
    if directory_bytes > _MAX_DIRECTORY_BYTES or locator[:4] == b"PK\x06\x07":
        raise _not_ours(path, f"it has {n_members} members, whose names take {directory_bytes} bytes or more")


def _check_sizes(archive: zipfile.ZipFile, path: Path, archive_bytes: int) -> None:
    # a member is never unpacked further than its entry says (zipfile.ZipExtFile)
    total = sum(info.file_size for info in archive.infolist())
    if total > _MAX_TOTAL_BYTES:
        raise _not_ours(path, f"it unpacks to {total} bytes, more than {_MAX_TOTAL_BYTES}")
    for info in archive.infolist():
        name = repr(info.filename[:80])
        limit = _MAX_JSON_BYTES if info.filename == "model.json" else MAX_HEADER_BYTES
        if info.file_size > limit:
            raise _not_ours(path, f"{name} has more than {limit} bytes")
        # zipfile asks for as many bytes at once as the entry says it takes in the archive
        if info.compress_size > archive_bytes:
            raise _not_ours(path, f"{name} takes {info.compress_size} bytes of {archive_bytes}")
        if not is_plain(info):
            raise _not_ours(path, f"{name} is compressed by method {info.compress_type}")


def _check_members(archive: zipfile.ZipFile, path: Path, shards: tuple[Shard, ...]) -> None:
    expected = {"model.json", *(_member(index) for index in range(len(shards)))}
    names = [info.filename for info in archive.infolist()]
    if set(names) != expected or len(names) != len(expected) or not shards:
        raise _not_ours(path, f"it has {len(names)} members and should have {len(expected)}")
    if len({PurePosixPath(shard.name).name for shard in shards}) < len(shards):
        raise _not_ours(path, "two of its shards have the same name")


def _read_json(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        description = parse_json(archive.read("model.json"))
    except KeyError:
        raise _not_ours(path, "it has no model.json") from None
    except (ValueError, RecursionError):
        raise _not_ours(path, "its model.json is not JSON") from None
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise _not_ours(path, f"its format is not {_FORMAT!r}")
    for key in ("model_id", "source"):
        text = description.get(key)
        if not isinstance(text, str) or not text.isprintable() or len(text) > _MAX_LINE:
            raise _not_ours(path, f"its {key} is not a line of text")
    if not isinstance(description.get("shards"), list):
        raise _not_ours(path, "it lists no shards")
    return description


def _shard(item: object, path: Path) -> Shard:
    if not isinstance(item, dict):
        raise _not_ours(path, "a shard is not described")
    name, size_bytes, sha256 = item.get("name"), item.get("size_bytes"), item.get("sha256")
    if not isinstance(name, str) or (wrong := safe_file_name(name)) is not None:
        raise _not_ours(path, f"the shard name {name!r} {wrong if isinstance(name, str) else 'is no text'}")
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or not 0 <= size_bytes <= _MAX_SIZE:
        raise _not_ours(path, f"the size of {name} is {str(size_bytes)[:40]}, and no file's")
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise _not_ours(path, f"the sha256 of {name} is not one")
    return Shard(name=name, size_bytes=size_bytes, sha256=sha256)


def _not_ours(path: Path, why: str) -> BadGguf:
    return BadGguf(
        f"{path} is an archive, but not of saved headers: {one_line(why, 300)}",
        hint="unpack it, or make one with: launcher inspect REF --save FILE",
    )
