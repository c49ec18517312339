from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from launcher.errors import BadGguf, LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.local import FileSource, explain_os_error, open_path
from launcher.models.located import LocalFiles
from tests.make_gguf import make_gguf


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, ...]:
    return make_gguf(tmp_path / "mini-Q4_0.gguf", "deepseek2", splits=3, hollow=True)


def test_one_file(tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "tiny.Q8_0.gguf", "llama", hollow=True)
    located = open_path(path)
    assert located.model.model_id == "tiny.Q8_0"
    assert located.model.source == str(path)
    assert located.model.shards[0].name == "tiny.Q8_0.gguf"
    assert located.model.size_bytes == path.stat().st_size
    assert located.files == LocalFiles(paths=(path,))
    assert path.read_bytes().startswith(located.raw_headers[0])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_any_shard_opens_the_set(shards: tuple[Path, ...], index: int) -> None:
    located = open_path(shards[index])
    assert located.files == LocalFiles(paths=shards)
    assert located.model.model_id == "mini-Q4_0"
    assert len(located.model.headers) == 3


def test_a_folder_with_one_model(shards: tuple[Path, ...]) -> None:
    shards[0].with_name("mmproj-F16.gguf").write_bytes(b"")
    assert open_path(shards[0].parent).files == LocalFiles(paths=shards)


def test_a_relative_path_and_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = make_gguf(tmp_path / "a.gguf", "llama", hollow=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_path(Path("a.gguf")).files == LocalFiles(paths=(path,))
    assert open_path(Path("~/a.gguf")).files == LocalFiles(paths=(path,))


def fails(path: Path, kind: type[LauncherError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        open_path(path)
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_missing_shard_is_named(shards: tuple[Path, ...]) -> None:
    shards[1].unlink()
    fails(shards[0], NotFound, "mini-Q4_0-00002-of-00003.gguf", "is missing")
    fails(shards[0].parent, NotFound, "mini-Q4_0-00002-of-00003.gguf", "is missing")
    shards[2].unlink()
    fails(shards[0], NotFound, "mini-Q4_0-00002-of-00003.gguf and 1 more", "are missing")


def test_a_renamed_shard_is_told(shards: tuple[Path, ...]) -> None:
    alone = shards[1].rename(shards[1].with_name("renamed.gguf"))
    fails(alone, BadGguf, "renamed.gguf belongs to a model of 3 files, and 1 are here")


def test_two_models_in_a_folder_are_ambiguous(tmp_path: Path) -> None:
    for name in "abcde":
        make_gguf(tmp_path / f"{name}.gguf", "llama", hollow=True)
    fails(tmp_path, UsageError, "has 5 models", "…")


def test_what_is_not_there(tmp_path: Path) -> None:
    fails(tmp_path / "no.gguf", NotFound, "there is no file")
    fails(tmp_path, NotFound, "has no .gguf model")
    (tmp_path / "file").write_text("x")
    fails(tmp_path / "file" / "a.gguf", NotFound, "there is no file")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"")
    fails(path, BadGguf, "is empty")
    path.write_bytes(random.Random(5).randbytes(100_000))
    fails(path, BadGguf, str(path), "not a model file")
    path.write_bytes((1000).to_bytes(8, "little") + b'{"__metadata__":{}}')
    fails(path, BadGguf, "a safetensors file")
    os.mkfifo(tmp_path / "pipe.gguf")
    fails(tmp_path / "pipe.gguf", UsageError, "not a regular file")


def test_a_truncated_file(tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "a.gguf", "llama", hollow=True)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    fails(path, BadGguf, f"it has {size // 2} bytes, and its tensors need")
    os.truncate(path, 1000)
    fails(path, BadGguf, "it has 1000 bytes, and its header alone needs")


def test_a_file_that_may_not_be_read() -> None:
    error = explain_os_error(PermissionError(13, "Permission denied"), Path("/models/a.gguf"))
    assert isinstance(error, NotAllowed)
    assert "/models/a.gguf may not be read" in error.message


def test_a_file_that_goes_away_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        FileSource(tmp_path / "gone.gguf", 100).read(0, 10)
    with pytest.raises(TryAgain, match="cannot be read"):
        FileSource(tmp_path, 100).read(0, 10)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fails(tmp_path / "loop", TryAgain, "cannot be read")
