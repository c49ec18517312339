"""One transient fault of a package index ends no download; what never ends, or is too much, does."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.errors import HashMismatch, LauncherError, TryAgain
from launcher.progress import Step
from launcher.system import packages, pip
from launcher.system.packages import Package, PackageKind, fetch_package
from launcher.units import MIB
from tests.fakes.hub_state import Fault
from tests.fakes.package_index import PackageIndex

NAME = "tiny_thing-1.0-py3-none-any.whl"


def _wheel() -> bytes:
    about = "tiny_thing-1.0.dist-info"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_thing.bin", b"x" * 200_000)  # pip draws no bar below 40 kB
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return file.getvalue()


WHEEL = _wheel()
PACKAGE = Package(
    name="tiny-thing",
    version="1.0",
    kind=PackageKind.WHEEL,
    file_name=NAME,
    sha256=sha256(WHEEL).hexdigest(),
)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    with PackageIndex() as running:
        running.publish_file(NAME, WHEEL)
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_TIMEOUT", "1")
        monkeypatch.setenv("PIP_RETRIES", "2")
        monkeypatch.setenv("PIP_INDEX_URL", running.url.replace("http://", "http://me:secret@"))
        monkeypatch.setattr(pip, "POLICY", replace(pip.POLICY, backoff_s=0.001))
        yield running


TRANSIENT = {
    "429": Fault(status=429),
    "500": Fault(status=500),
    "503": Fault(status=503, retry_after="0"),
    "hang up": Fault(hang_up=True),
    "drop": Fault(drop_after=10),
    "reset": Fault(drop_after=0, reset=True),
    "late drop": Fault(drop_after=100_000),
    "short body": Fault(truncate_to=100),
    "stall": Fault(stall_after=10),
}


@pytest.mark.parametrize("where", ["page", "file"])
@pytest.mark.parametrize("fault", TRANSIENT)
def test_one_transient_fault_is_survived(
    index: PackageIndex, tmp_path: Path, *, where: str, fault: str
) -> None:
    index.faults.append(replace(TRANSIENT[fault], where=where, times=1))
    assert fetch_package(PACKAGE, tmp_path).read_bytes() == WHEEL


def test_a_file_that_breaks_off_is_not_called_another_file(index: PackageIndex, tmp_path: Path) -> None:
    index.faults.append(Fault(where="file", drop_after=100_000))
    steps: list[Step] = []
    with pytest.raises(TryAgain, match=r"broke off after [0-9]+ %") as caught:
        fetch_package(PACKAGE, tmp_path, on_progress=steps.append)
    assert not isinstance(caught.value, HashMismatch)
    assert len(index.asked("index", match="/files/")) == pip.POLICY.attempts
    assert [step for step in steps if step.is_remark]
    assert [entry for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")] == []


def test_another_file_is_called_one_after_two_tries(index: PackageIndex, tmp_path: Path) -> None:
    index.publish_file(NAME, WHEEL + b"x")
    with pytest.raises(HashMismatch, match="the index serves another file under this name"):
        fetch_package(PACKAGE, tmp_path)
    assert len(index.asked("index", match="/files/")) == 2


def _refused(tmp_path: Path) -> str:
    began = time.monotonic()
    with pytest.raises(LauncherError) as caught:
        fetch_package(PACKAGE, tmp_path)
    assert time.monotonic() - began < 60
    assert [entry for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")] == []
    assert "secret" not in caught.value.message
    assert caught.value.message.isprintable()
    return caught.value.message


LIMITS = pip.PipLimits(silence_s=3.0, downloading_s=1.5, scratch_bytes=4 * MIB, memory_bytes=400 * MIB)


@pytest.mark.parametrize("where", ["page", "file"])
def test_an_index_that_drips_is_left(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(packages, "_LIMITS", LIMITS)
    monkeypatch.setenv("PIP_TIMEOUT", "15")
    index.faults.append(
        Fault(where=where, body=b" " * 100_000, bytes_per_s=2, headers=(("Content-Type", "text/html"),))
    )
    assert "the index sends next to nothing" in _refused(tmp_path)


def test_a_file_without_end_is_cut(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_LIMITS", LIMITS)
    index.faults.append(Fault(where="file", body=b"x" * MIB, repeat=0))
    assert "the index sends more than 4.0 MiB" in _refused(tmp_path)
    assert len(index.asked("index", match="/files/")) == 1


def test_a_page_without_end_is_cut(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_LIMITS", LIMITS)
    index.faults.append(
        Fault(where="page", body=b"x" * MIB, repeat=0, headers=(("Content-Type", "text/html"),))
    )
    assert "of memory for what the index sends" in _refused(tmp_path)
