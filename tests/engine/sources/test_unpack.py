from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from launcher.engine.sources.unpack import UnpackLimits, link_copies, unpack_archive
from launcher.errors import UsageError
from tests.engine.sources.archives import engine_archive, entry, pack

LIMITS = UnpackLimits(entries=20, least_bytes=100_000, ratio=5)


def unpack(tmp_path: Path, content: bytes, name: str = "x.tar.gz") -> Path:
    (tmp_path / name).write_bytes(content)
    unpack_archive(tmp_path / name, tmp_path / "out", LIMITS)
    return tmp_path / "out"


def refused(tmp_path: Path, content: bytes, name: str = "x.tar.gz") -> str:
    before = sorted(path for path in tmp_path.rglob("*") if "out" not in path.parts)
    with pytest.raises(UsageError) as caught:
        unpack(tmp_path, content, name)
    after = sorted(path for path in tmp_path.rglob("*") if "out" not in path.parts and path.name != name)
    assert after == [path for path in before if path.name != name]
    assert caught.value.hint
    assert "remove" not in caught.value.hint  # the file that was named is the user's
    return caught.value.message


def test_upstreams_layout(tmp_path: Path) -> None:
    folder = unpack(tmp_path, engine_archive()) / "llama-b11026"
    assert os.access(folder / "llama-server", os.X_OK)
    assert (folder / "libllama.so.0").readlink() == Path("libllama.so.0.5.0")
    assert stat.S_IMODE((folder / "LICENSE").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (entry("/etc/x", b"1"), "would leave the folder"),
        (entry("../x", b"1"), "would leave the folder"),
        (entry("a/../../x", b"1"), "would leave the folder"),
        (entry("a\\..\\x", b"1"), "would leave the folder"),
        (entry("a\nb", b"1"), "no name of a file"),
        (entry("/".join("abcdefghijkl"), b"1"), "folders deep"),
        (entry("a" * 250, b"1"), "too long a name"),
        (entry("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "link"),
        (entry("link", kind=tarfile.SYMTYPE, link="../../x"), "link"),
        (entry("link", kind=tarfile.SYMTYPE, link="gone"), "leads to no file"),
        (entry("link", kind=tarfile.SYMTYPE, link="link"), "leads to no file"),
        (entry("link", kind=tarfile.LNKTYPE, link="/etc/passwd"), "link"),
        (entry("link", kind=tarfile.LNKTYPE, link="gone"), "leads to no file before it"),
        (entry("null", kind=tarfile.CHRTYPE), "null"),
        (entry("disk", kind=tarfile.BLKTYPE), "disk"),
        (entry("pipe", kind=tarfile.FIFOTYPE), "pipe"),
    ],
)
def test_hostile_entries(tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes], words: str) -> None:
    assert words in refused(tmp_path, pack(entry("first", b"1"), hostile))


def test_no_file_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    content = pack(
        entry("out", kind=tarfile.SYMTYPE, link="inside"),
        entry("inside/x", b"1"),
        entry("out/planted", b"evil"),
    )
    refused(tmp_path, content)
    twice = pack(entry("a", b"1"), entry("l", kind=tarfile.SYMTYPE, link="a"), entry("l", b"evil"))
    (tmp_path / "second").mkdir()
    assert "two entries" in refused(tmp_path / "second", twice)


def test_a_file_that_comes_twice(tmp_path: Path) -> None:
    assert "two entries a" in refused(tmp_path, pack(entry("a", b"1"), entry("a", b"2")))


def test_a_file_in_a_file(tmp_path: Path) -> None:
    assert "lies in a file" in refused(tmp_path, pack(entry("a", b"1"), entry("a/b", b"2")))


def test_no_set_user_bits(tmp_path: Path) -> None:
    folder = unpack(tmp_path, pack(entry("a", b"1", mode=0o6777)))
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o755


def test_a_bomb(tmp_path: Path) -> None:
    assert "unpacks to more than" in refused(tmp_path, pack(entry("zeros", bytes(1_000_000))))


def test_too_many_entries(tmp_path: Path) -> None:
    assert "more than 20 entries" in refused(tmp_path, pack(*(entry(f"f{n}") for n in range(30))))


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    claimed, _ = entry("x", kind=tarfile.XHDTYPE)
    claimed.size = 1 << 40
    raw = claimed.tobuf(tarfile.PAX_FORMAT) + bytes(10_240)
    refused(tmp_path, gzip.compress(raw))


def test_a_file_that_claims_more_than_there_is(tmp_path: Path) -> None:
    claimed, _ = entry("x")
    claimed.size = 5_000
    assert "damaged" in refused(tmp_path, gzip.compress(claimed.tobuf() + bytes(512)))


def test_a_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    sparse, _ = entry("x", kind=tarfile.GNUTYPE_SPARSE)
    sparse.size = 512
    raw = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    raw[386:410] = b"%011o\0%011o\0" % (0, 512)
    raw[483:495] = b"\x80\0\0\0\0\1\0\0\0\0\0\0"
    checksum = sum(raw[:148]) + 8 * 32 + sum(raw[156:])
    raw[148:156] = b"%06o\0 " % checksum
    refused(tmp_path, gzip.compress(bytes(raw) + bytes(512 * 4)))


@pytest.mark.parametrize("cut", [10, 100, 200])
def test_truncated(tmp_path: Path, cut: int) -> None:
    assert "damaged" in refused(tmp_path, engine_archive()[:cut])


def test_one_flipped_bit_is_found_by_gzips_checksum(tmp_path: Path) -> None:
    content = bytearray(engine_archive())
    content[-6] ^= 1
    assert "damaged" in refused(tmp_path, bytes(content))


def test_no_archive_at_all(tmp_path: Path) -> None:
    assert "damaged" in refused(tmp_path, b"<html>log in</html>")


def test_zip(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/x", b"1")
    assert (unpack(tmp_path, out.getvalue(), "x.zip") / "a/x").read_bytes() == b"1"


@pytest.mark.parametrize(("name", "mode"), [("../x", 0), ("/x", 0), ("x", stat.S_IFLNK | 0o777)])
def test_hostile_zips(tmp_path: Path, name: str, mode: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
    refused(tmp_path, out.getvalue(), "x.zip")


def test_copies_of_a_library_become_links_to_one(tmp_path: Path) -> None:
    for name in ("libx.so", "libx.so.0", "libx.so.0.1.0"):
        (tmp_path / name).write_bytes(b"library")
    (tmp_path / "liby.so").write_bytes(b"another")
    link_copies(tmp_path)
    assert (tmp_path / "libx.so").readlink() == Path("libx.so.0.1.0")
    assert (tmp_path / "libx.so.0").read_bytes() == b"library"
    assert not (tmp_path / "liby.so").is_symlink()
