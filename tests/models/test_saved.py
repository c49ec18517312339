from __future__ import annotations

import contextlib
import json
import random
import zipfile
from pathlib import Path

import pytest

from launcher.errors import BadGguf, TryAgain, UsageError
from launcher.gguf.header import MAX_HEADER_BYTES
from launcher.models import saved
from launcher.models.local import open_path
from launcher.models.located import Located, SavedHeaders
from launcher.models.saved import is_saved, save_headers
from tests.make_gguf import make_gguf


@pytest.fixture
def located(tmp_path: Path) -> Located:
    return open_path(make_gguf(tmp_path / "m-Q4_0.gguf", "deepseek2", splits=2, hollow=True)[0])


def test_saved_headers_come_back_as_the_same_model(located: Located, tmp_path: Path) -> None:
    path = save_headers(located, tmp_path / "new" / "m.headers")
    again = open_path(path)
    assert again.model == located.model
    assert again.raw_headers == located.raw_headers
    assert again.files == SavedHeaders(path=path)
    assert [file.name for file in path.parent.iterdir()] == ["m.headers"]


def test_the_same_headers_make_the_same_file(located: Located, tmp_path: Path) -> None:
    first, second = save_headers(located, tmp_path / "a"), save_headers(located, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o600 == 0o600


def test_saving_where_nothing_can_be_written(located: Located, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        save_headers(located, tmp_path / "file" / "m.headers")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        save_headers(located, tmp_path / "folder")
    assert not list(tmp_path.glob("folder?*"))


def test_a_missing_file_is_not_saved_headers(tmp_path: Path) -> None:
    assert not is_saved(tmp_path / "none")


class Archive:
    """An archive taken apart, to be put together wrongly."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}
        self.description = json.loads(self.members["model.json"])

    def write(self) -> Path:
        if "model.json" in self.members:
            self.members["model.json"] = json.dumps(self.description).encode()
        return self.write_as_is()

    def write_as_is(self) -> Path:
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.members.items():
                archive.writestr(name, content)
        return self.path


@pytest.fixture
def archive(located: Located, tmp_path: Path) -> Archive:
    return Archive(save_headers(located, tmp_path / "m.headers"))


def refused(path: Path, words: str) -> None:
    with pytest.raises(BadGguf) as caught:
        open_path(path)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["../x.gguf", "/etc/x.gguf", "a\nb.gguf", "", 5, None])
def test_names_that_could_leave_their_folder(archive: Archive, name: object) -> None:
    archive.description["shards"][1]["name"] = name
    refused(archive.write(), "the shard name")


@pytest.mark.parametrize("size", [-1, "9", None, True, 1.5])
def test_sizes_that_are_none(archive: Archive, size: object) -> None:
    archive.description["shards"][0]["size_bytes"] = size
    refused(archive.write(), "the size of")


def test_a_size_below_the_tensors(archive: Archive) -> None:
    archive.description["shards"][0]["size_bytes"] = 50_000
    refused(archive.write(), "is truncated")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "gguf-launcher headers 2", "its format is not"),
        ("model_id", 5, "its model_id is not"),
        ("source", "a\x1b[2J", "its source is not"),
        ("shards", {}, "it lists no shards"),
        ("shards", [], "it has 3 members"),
        ("shards", ["x"], "a shard is not described"),
    ],
)
def test_descriptions_of_something_else(archive: Archive, key: str, value: object, words: str) -> None:
    archive.description[key] = value
    refused(archive.write(), words)


def test_a_digest_that_is_no_text(archive: Archive) -> None:
    archive.description["shards"][0]["sha256"] = 7
    refused(archive.write(), "the sha256 of")
    archive.description["shards"][0]["sha256"] = "\x1b[31m"
    refused(archive.write(), "the sha256 of")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_description_that_is_not_json(archive: Archive, content: bytes) -> None:
    archive.members["model.json"] = content
    refused(archive.write_as_is(), "its ")


def test_members_too_many_or_too_few(archive: Archive) -> None:
    archive.members["extra"] = b""
    refused(archive.write(), "it has 4 members and should have 3")
    del archive.members["extra"], archive.members["header-00002"]
    refused(archive.write(), "it has 2 members")
    del archive.members["model.json"]
    refused(archive.write(), "it has no model.json")


def test_a_bomb_is_not_unpacked(archive: Archive) -> None:
    archive.members["header-00002"] = bytes(MAX_HEADER_BYTES + 1)
    refused(archive.write(), "has more than")
    archive.members["header-00001"] = bytes(MAX_HEADER_BYTES)
    refused(archive.write(), "it unpacks to")


def test_a_damaged_archive(archive: Archive) -> None:
    whole = archive.path.read_bytes()
    archive.path.write_bytes(whole[: len(whole) // 2])
    refused(archive.path, "not of saved headers")
    middle = len(whole) // 3
    archive.path.write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    refused(archive.path, "not of saved headers")


def test_a_description_too_long(archive: Archive) -> None:
    archive.members["model.json"] = b" " * (saved._MAX_JSON_BYTES + 1)
    refused(archive.write_as_is(), "has more than")


def test_an_archive_that_goes_away(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="cannot be read"):
        saved.read_saved(tmp_path / "none")


def test_a_header_that_is_none(archive: Archive) -> None:
    archive.members["header-00001"] = b"<!DOCTYPE html>"
    refused(archive.write(), "a web page")


def test_bounds_fit_the_largest_split(located: Located) -> None:
    per_shard = len(json.dumps({"name": "x" * 200, "size_bytes": 2**40, "sha256": "0" * 64}, indent=1))
    assert per_shard * 2000 < saved._MAX_JSON_BYTES


def test_a_member_name_that_is_no_text(archive: Archive) -> None:
    whole = archive.path.read_bytes()
    at = whole.index(b"PK\x01\x02")  # the first entry of the directory: its flags say UTF-8, its name is not
    entry = bytearray(whole[at:])
    entry[8:10] = (0x800).to_bytes(2, "little")
    entry[46] = 0xFF
    archive.path.write_bytes(whole[:at] + entry)
    refused(archive.path, "not of saved headers")


def test_fuzzed_archives_are_read_or_refused(archive: Archive) -> None:
    dice = random.Random(5)
    whole = archive.path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4))):
            data[dice.randrange(directory, len(data))] = dice.randrange(256)
        archive.path.write_bytes(data)
        with contextlib.suppress(UsageError):
            saved.read_saved(archive.path)


@pytest.mark.parametrize("size", [2**63, 10**40, 10**4000])
def test_sizes_that_no_file_has(archive: Archive, size: int) -> None:
    archive.description["shards"][0]["size_bytes"] = size
    refused(archive.write(), "the size of")


def test_a_size_of_more_digits_than_python_reads(archive: Archive) -> None:
    text = archive.members["model.json"].decode()
    size = str(archive.description["shards"][0]["size_bytes"])
    archive.members["model.json"] = text.replace(size, "9" * 5000).encode()
    refused(archive.write_as_is(), "not JSON")


def test_shards_of_one_name(archive: Archive) -> None:
    first, second = archive.description["shards"]
    second["name"] = f"folder/{first['name']}"
    refused(archive.write(), "the same name")


def test_a_sparse_file_is_refused_by_its_size(archive: Archive) -> None:
    with archive.path.open("r+b") as file:
        file.truncate(1 << 40)
    refused(archive.path, f"it has {1 << 40} bytes")


def rewritten(archive: Archive, n_members: int, directory_bytes: int, *, locator: bytes = b"") -> Path:
    """The archive with another last record, and `locator` before it."""
    whole = bytearray(archive.path.read_bytes())
    record = whole[-22:]
    record[10:16] = n_members.to_bytes(2, "little") + directory_bytes.to_bytes(4, "little")
    archive.path.write_bytes(whole[:-22] + locator + record)
    return archive.path


def test_a_directory_of_gigabytes_is_not_read(archive: Archive) -> None:
    refused(rewritten(archive, 65535, 2**32 - 1), "it has 65535 members")


def test_a_zip64_directory_is_not_read(archive: Archive) -> None:
    whole = archive.path.read_bytes()
    directory = int.from_bytes(whole[-10:-6], "little")
    locator = b"PK\x06\x07" + bytes(16)
    refused(rewritten(archive, 3, directory, locator=locator), "or more")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_only_what_we_compress_with_is_unpacked(archive: Archive, method: int) -> None:
    with zipfile.ZipFile(archive.path, "w", method) as made:
        for name, content in archive.members.items():
            made.writestr(name, content)
    refused(archive.path, f"is compressed by method {method}")


def test_a_file_shorter_than_its_last_record(archive: Archive) -> None:
    archive.path.write_bytes(b"PK\x03\x04")
    refused(archive.path, "does not end")
