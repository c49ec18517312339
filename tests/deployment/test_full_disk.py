"""A disk that fills up behind a server: said in a sentence, and nothing is left that nobody knows of."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.doctor import check_state
from launcher.commands.restart import restart
from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.options import supervisor_command
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, save_record
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.takedown import take_down
from launcher.errors import TryAgain
from launcher.plan.from_json import stored
from launcher.progress import Step
from launcher.system.settings import read_settings
from tests.plan.planned import small_plan
from tests.serving import a_request, fake_command, stub_model
from tests.small_disk import fill, mounted


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


def everything_of(folder: Path) -> list[str]:
    """Processes that carry the folder's name: supervisor, server, whatever they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def test_a_disk_that_fills_up_while_it_loads_ends_the_load(small: Path, tmp_path: Path) -> None:
    folder = small / "deployments"

    def fill_at_first_step(_step: Step) -> None:
        fill(small)

    # more than what removing progress frees
    long = stored(small_plan(reasons=("as long as real ones",) * 1000))
    request = a_request("m", fake_command("--load-seconds", "1.5"), stub_model(tmp_path), stored_plan=long)
    with pytest.raises(TryAgain) as caught:
        bring_up(folder, request, on_progress=fill_at_first_step)
    assert caught.value.message == f"{folder}, which keeps the records of what runs, is full"
    assert find_record(folder, "m") is None
    assert everything_of(folder) == []


def test_a_full_disk_is_said_before_anything_is_started_or_ended(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(small))
    settings = read_settings()
    folder = settings.deployments_dir
    running = bring_up(folder, a_request("m", fake_command(), stub_model(tmp_path)))
    fill(small)
    with pytest.raises(TryAgain, match="is full"):
        bring_up(folder, a_request("other", fake_command(), stub_model(tmp_path)))
    with pytest.raises(TryAgain, match="is full"):
        restart("m", lambda _step: None)
    [finding] = check_state(settings)
    assert (finding.wrong, "is full" in finding.text) == (True, True)
    assert read_status(running).state is DeploymentState.RUNNING
    assert take_down(folder, "m").was is DeploymentState.RUNNING
    assert find_record(folder, "m") is None


def test_a_supervisor_that_cannot_write_ends_with_its_server(small: Path, tmp_path: Path) -> None:
    """Whoever waits learns it by its exit status, and by the record that stayed as it was."""
    folder = small / "deployments"
    running = bring_up(folder, a_request("m", fake_command(), stub_model(tmp_path)))
    take_down(folder, "m")
    log = tmp_path / "m.log"
    claimed = replace(running, phase=Phase.STARTING, process=None, supervisor=None, log_path=str(log))
    save_record(folder, claimed)
    fill(small)
    with log.open("wb") as said:
        done = subprocess.run(supervisor_command(folder / "m.json"), stderr=said, timeout=60, check=False)
    assert done.returncode == TryAgain.exit_code
    entry = find_record(folder, "m")
    assert isinstance(entry, Deployment)
    assert (entry.phase, entry.process) == (Phase.STARTING, None)
    assert "the record could not be written: [Errno 28]" in log.read_text()
    assert running.pid is not None
    assert not lives(running.pid)
