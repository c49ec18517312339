"""Module names that the units and command lines of running deployments hold: they can be run for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.options import supervisor_command
from tests.serving import a_request, fake_command, stub_model

SUPERVISORS = ("launcher.deployment.supervisor", "launcher.supervise")
WAITERS = ("launcher.deployment.install.wait_until_ready", "launcher.engine.answers")


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", SUPERVISORS)
def test_a_supervisor_with_nothing_to_supervise_ends_well(module: str, tmp_path: Path) -> None:
    done = run(module, str(tmp_path / "m.json"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", SUPERVISORS)
def test_a_supervisor_takes_the_path_of_the_record(module: str) -> None:
    done = run(module)
    assert "IndexError" in done.stderr


def test_new_supervisors_are_started_by_their_new_name() -> None:
    assert supervisor_command(Path("/state/m.json"))[1:] == ("-P", "-m", SUPERVISORS[0], "/state/m.json")


@pytest.mark.parametrize("module", WAITERS)
def test_a_unit_waits_until_the_server_has_produced_a_token(
    module: str, deployments: Path, tmp_path: Path
) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    done = run(module, deployment.url)
    assert (done.returncode, done.stderr) == (0, "")
