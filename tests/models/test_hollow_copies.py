from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import BadGguf, TryAgain, UsageError
from launcher.models import hollow_copies
from launcher.models.hollow_copies import write_hollow
from launcher.models.local import open_path
from launcher.models.located import Located
from tests.tiny_gguf import tiny_split

TIB = 1 << 40


@pytest.fixture
def located(tmp_path: Path) -> Located:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in tiny_split("big-Q4_0", 2).items():
        (folder / name).write_bytes(content)
    return open_path(folder)


def huge(located: Located) -> Located:
    """The same headers in front of a TiB per shard."""
    shards = tuple(replace(shard, size_bytes=TIB) for shard in located.model.shards)
    return replace(located, model=replace(located.model, shards=shards))


def test_a_hollow_copy_has_the_true_size_and_takes_no_room(located: Located, tmp_path: Path) -> None:
    paths = write_hollow(huge(located), tmp_path / "hollow")
    assert [path.name for path in paths] == ["big-Q4_0-00001-of-00002.gguf", "big-Q4_0-00002-of-00002.gguf"]
    for path, raw in zip(paths, located.raw_headers, strict=True):
        stat = path.stat()
        assert stat.st_size == TIB
        assert stat.st_blocks * 512 < 64 << 10
        with path.open("rb") as file:
            assert raw == file.read(len(raw))
            assert bytes(100) == file.read(100)
    again = open_path(tmp_path / "hollow")
    assert located.model.headers == again.model.headers
    assert paths == write_hollow(huge(located), tmp_path / "hollow")
    assert len(list((tmp_path / "hollow").iterdir())) == 2


def test_headers_that_do_not_fit_the_size_are_refused(located: Located, tmp_path: Path) -> None:
    shards = tuple(replace(shard, size_bytes=100) for shard in located.model.shards)
    with pytest.raises(BadGguf):
        write_hollow(replace(located, model=replace(located.model, shards=shards)), tmp_path / "hollow")


def test_a_file_system_that_fills_holes_is_refused(
    located: Located, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT does: every byte of the probe is on the disk."""
    real = os.fstat

    class Filled:
        def __init__(self, descriptor: int) -> None:
            self._stat = real(descriptor)
            self.st_blocks = self._stat.st_size // 512

        def __getattr__(self, name: str) -> object:
            return getattr(self._stat, name)

    monkeypatch.setattr(hollow_copies.os, "fstat", Filled)
    with pytest.raises(UsageError, match=r"has no holes: a hollow model would take 2\.0 TiB") as caught:
        write_hollow(huge(located), tmp_path / "hollow")
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")
    assert list((tmp_path / "hollow").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(located: Located, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TryAgain, match="cannot be written"):
        write_hollow(located, tmp_path / "file" / "hollow")
