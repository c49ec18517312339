"""The file of a bundle: what is written is read back, and what others have made is refused before it acts."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.bundle.archive import ArchiveWriter, Continued, read_bundle
from launcher.commands.bundle.manifest import (
    ENGINE,
    LOCK,
    MANIFEST,
    SBOM,
    BundledEngine,
    Manifest,
    format_manifest,
)
from launcher.errors import HashMismatch, UsageError

FILES = {
    "model/m-00001-of-00002.gguf": b"GGUF" * 300,
    "model/m-00002-of-00002.gguf": b"x",
    ENGINE: b"engine",
    LOCK: b"{}",
    SBOM: b"{}",
    "licenses/model.txt": b"MIT",
}


def manifest_of(writer: ArchiveWriter) -> Manifest:
    sha256 = next(file.sha256 for file in writer.files if file.name == ENGINE)
    engine = BundledEngine(commit="abc", backend="cpu", arch="x86_64", isa=(), digest="0" * 64, sha256=sha256)
    return Manifest(name="m", model_id="u/m", made_by="launcher", engine=engine, files=tuple(writer.files))


def write(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with path.open("a+b") as file:
        writer = ArchiveWriter(file, lambda _: None)
        for name, content in files.items():
            writer.add_bytes(name, content)
        writer.end(format_manifest(manifest_of(writer)))
    return path


def test_what_was_written_is_read_back(tmp_path: Path):
    bundle = read_bundle(write(tmp_path / "b"))
    assert {name: bundle.content(name) for name in bundle.manifest.by_name} == FILES
    with tarfile.open(tmp_path / "b") as any_tar:
        assert any_tar.getnames() == [*FILES, MANIFEST]
        member = any_tar.extractfile(LOCK)
        assert member is not None
        assert member.read() == b"{}"


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, 1700, 2048, 2050, 4096, 5000])
def test_a_file_that_was_begun_is_gone_on_with(tmp_path: Path, cut: int):
    whole = write(tmp_path / "whole").read_bytes()
    begun = tmp_path / "begun"
    begun.write_bytes(whole[:cut])
    assert write(begun).read_bytes() == whole
    begun.write_bytes(whole[:cut] + b"?" * (len(whole) + 100 - cut))  # a longer one that differs
    assert write(begun).read_bytes() == whole


def test_bytes_that_are_there_are_not_written_again(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"abcdef")

    class Counting(io.FileIO):
        written = 0

        def write(self, data: object) -> int:
            n_bytes = super().write(data)  # type: ignore[arg-type]
            Counting.written += n_bytes
            return n_bytes

    with Counting(path, "r+b") as file:
        out = Continued(file)  # type: ignore[arg-type]
        for part in (b"abc", b"dXf", b"gh"):
            out.put(part)
        out.finish()
    assert path.read_bytes() == b"abcdXfgh"
    assert Counting.written == len(b"dXfgh")


def test_a_shard_that_is_not_the_expected_one_is_refused(tmp_path: Path):
    shard = tmp_path / "m.gguf"
    shard.write_bytes(b"abc")
    with (tmp_path / "b").open("a+b") as file, pytest.raises(HashMismatch, match="gguf has sha256"):
        ArchiveWriter(file, lambda _: None).add_file("model/m.gguf", shard, "0" * 64)


@pytest.mark.parametrize("name", ["../m", "/etc/passwd", "model/../x", "model/.hidden", "engine/x", "x", ""])
def test_no_other_name_is_written(tmp_path: Path, name: str):
    with (tmp_path / "b").open("a+b") as file, pytest.raises(UsageError, match="cannot go into a bundle"):
        ArchiveWriter(file, lambda _: None).add_bytes(name, b"")


def test_every_shorter_file_is_refused(tmp_path: Path):
    whole = write(tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for size in [*range(0, len(whole), 300), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match="no bundle"):
            read_bundle(path)


def test_a_damaged_header_or_manifest_is_refused(tmp_path: Path):
    whole = write(tmp_path / "whole").read_bytes()
    path = tmp_path / "damaged"
    start = whole.index(b'{"') if b'{"' in whole else whole.rindex(b"{\n")
    for at in (0, 100, 130, 156, 257, start + 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UsageError, match="no bundle"):
            read_bundle(path)


def test_a_flipped_byte_of_a_model_is_found(tmp_path: Path):
    path = write(tmp_path / "b")
    whole = bytearray(path.read_bytes())
    whole[600] ^= 1
    path.write_bytes(whole)
    bundle = read_bundle(path)
    with pytest.raises(HashMismatch, match="its manifest says"):
        b"".join(bundle.chunks("model/m-00001-of-00002.gguf"))


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "head",
    [
        entry("model/m", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("model/m", tarfile.LNKTYPE, link="lock.json"),
        entry("model/m", tarfile.DIRTYPE),
        entry("model/m", tarfile.CHRTYPE),
        entry("model/m", tarfile.FIFOTYPE),
        entry("model/m", tarfile.GNUTYPE_SPARSE),
        entry("model/m", tarfile.GNUTYPE_LONGNAME, size=1 << 40),
        entry("model/m", tarfile.XHDTYPE, size=1 << 40),
        entry("model/m", tarfile.XGLTYPE, size=1 << 40),
        entry("../m"),
        entry("/m"),
        entry("model/a/b"),
        entry("model/" + "a" * 91),
        entry("model/m", size=1 << 62),
        entry(LOCK, size=1 << 30),
        entry(MANIFEST, size=1 << 30),
        entry("model/m", size=-5 & ((1 << 62) - 1)),
        b"\xff" * 512,
        bytes(512),
        b"",
    ],
)
def test_hostile_entries_are_refused_without_memory(tmp_path: Path, head: bytes):
    path = tmp_path / "b"
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(1 << 34)  # sparse: there is something at all those offsets
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="no bundle"):
            read_bundle(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_tar_is_refused(tmp_path: Path):
    path = tmp_path / "b"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, "{}")
    with pytest.raises(UsageError, match="no bundle"):
        read_bundle(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_bundle(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_bundle(tmp_path / "none")


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    path = tmp_path / "b"
    with path.open("a+b") as file:
        writer = ArchiveWriter(file, lambda _: None)
        for name, content in [*FILES.items(), (LOCK, b"[]")]:
            writer.add_bytes(name, content)
        writer.end(format_manifest(replace(manifest_of(writer), files=tuple(writer.files[:-1]))))
    with pytest.raises(UsageError, match="two files lock"):
        read_bundle(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "gguf-launcher bundle 9"},
        {"name": "../../x"},
        {"name": ""},
        {"files": []},
        {"engine": {}},
        {"files": [{"name": "/etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]},
        {"model_id": 5},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(tmp_path: Path, change: dict[str, object]):
    path = tmp_path / "b"
    with path.open("a+b") as file:
        writer = ArchiveWriter(file, lambda _: None)
        for name, content in FILES.items():
            writer.add_bytes(name, content)
        document = json.loads(format_manifest(manifest_of(writer))) | change
        writer.end(json.dumps(document).encode())
    with pytest.raises(UsageError, match="no bundle"):
        read_bundle(path)


@pytest.mark.parametrize("missing", [ENGINE, LOCK, SBOM])
def test_a_bundle_without_a_part_is_refused(tmp_path: Path, missing: str):
    path = tmp_path / "b"
    with path.open("a+b") as file:
        writer = ArchiveWriter(file, lambda _: None)
        for name, content in FILES.items():
            if name != missing:
                writer.add_bytes(name, content)
        engine = BundledEngine(commit="a", backend="cpu", arch="x", isa=(), digest="0" * 64, sha256="0" * 64)
        writer.end(
            format_manifest(
                Manifest(name="m", model_id="m", made_by="l", engine=engine, files=tuple(writer.files))
            )
        )
    with pytest.raises(UsageError, match="no bundle"):
        read_bundle(path)


@pytest.mark.parametrize(
    "name",
    [
        "model/engine.tar.gz",  # it took the place of the engine whose sha256 the user was asked about
        "model/launcher.lock",  # … of the lock that had been checked
        "model/lock.json",
        "model/manifest.json",
        "model/sbom.cdx.json",
        "model/Launcher.Lock",
        "model/licenses",
        "model/M-00001-of-00002.gguf",
    ],
)
def test_no_file_of_a_bundle_takes_the_place_of_another(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="two that would lie in one place"):
        read_bundle(write(tmp_path / "b", FILES | {name: b"another"}))
