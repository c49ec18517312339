"""Fetching with the real pip from a folder of packages (or from an index that is not there)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from launcher.errors import HashMismatch, LauncherError, TryAgain
from launcher.progress import Step
from launcher.system.packages import Package, PackageKind, fetch_package

METADATA = "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
BACKEND = f"""\
import pathlib
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder) / "tiny_thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text({METADATA!r})
    return info.name
"""


def wheel(folder: Path) -> Package:
    name = "tiny_thing-1.0-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as file:
        file.writestr("tiny_thing.txt", "a" * 1000)
        file.writestr("tiny_thing-1.0.dist-info/METADATA", METADATA)
        file.writestr("tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("tiny_thing-1.0.dist-info/RECORD", "")
    return pinned(folder / name, PackageKind.WHEEL)


def sdist(folder: Path) -> Package:
    """A source archive whose build backend is inside and needs nothing."""
    name = "tiny_thing-1.0.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {"PKG-INFO": METADATA, "pyproject.toml": project, "backend.py": BACKEND}
    with tarfile.open(folder / name, "w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(f"tiny_thing-1.0/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return pinned(folder / name, PackageKind.SDIST)


def pinned(path: Path, kind: PackageKind) -> Package:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package(name="tiny-thing", version="1.0", kind=kind, file_name=path.name, sha256=digest)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pip's whole world is one folder."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return folder


@pytest.mark.parametrize("make", [wheel, sdist])
def test_a_package_is_fetched_once(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    assert callable(make)
    package, cache, steps = make(index), tmp_path / "cache", list[Step]()
    path = fetch_package(package, cache, on_progress=steps.append)
    assert path == cache / package.file_name
    assert path.read_bytes() == (index / package.file_name).read_bytes()
    assert {step.phase for step in steps} == {"download"}
    monkeypatch.setattr(sys, "executable", "/no/python")  # pip cannot be asked again
    assert fetch_package(package, cache) == path
    assert [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")] == [path.name]


def test_modules_in_the_users_folder_are_not_code(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, folder = wheel(index), tmp_path / "downloads"
    folder.mkdir()
    (folder / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(folder)
    assert fetch_package(package, tmp_path / "cache").exists()
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path: Path, index: Path) -> None:
    package, cache = wheel(index), tmp_path / "cache"
    path = fetch_package(package, cache)
    path.write_bytes(path.read_bytes()[:100])
    fetch_package(package, cache)
    assert path.read_bytes() == (index / package.file_name).read_bytes()


def test_what_a_killed_download_left_is_cleared(tmp_path: Path, index: Path) -> None:
    package, cache = wheel(index), tmp_path / "cache"
    left = cache / f".{package.file_name}.part"
    left.mkdir(parents=True)
    (left / package.file_name).write_bytes(b"half")
    fetch_package(package, cache)
    assert not left.exists()


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, index: Path) -> None:
    package, cache = dataclasses.replace(wheel(index), sha256="0" * 64), tmp_path / "cache"
    with pytest.raises(HashMismatch, match=f"should have {'0' * 64}") as caught:
        fetch_package(package, cache)
    assert (caught.value.code, caught.value.exit_code) == ("hash_mismatch", 6)
    assert [entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock")] == []


def test_a_version_the_index_does_not_have(tmp_path: Path, index: Path) -> None:
    package = dataclasses.replace(wheel(index), version="2.0")
    with pytest.raises(TryAgain, match=r"tiny-thing 2\.0 cannot be downloaded with pip: .*No matching"):
        fetch_package(package, tmp_path / "cache")


def test_an_index_out_of_reach_is_worth_another_try_and_is_not_named(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel(index)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(TryAgain) as caught:
        fetch_package(package, tmp_path / "cache")
    assert caught.value.retryable
    assert "127.0.0.1" not in caught.value.message
    assert "secret" not in caught.value.message
    assert "pip config list" in str(caught.value.hint)


def test_a_cache_that_cannot_be_written(tmp_path: Path, index: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    with pytest.raises(LauncherError, match="cannot be stored in") as caught:
        fetch_package(wheel(index), cache)
    assert caught.value.exit_code == 6
