"""Nothing runs and nothing is recorded after a deployment was taken down."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.records import read_all
from launcher.deployment.status import DeploymentState
from launcher.deployment.takedown import TakenDown, take_down
from launcher.errors import UsageError
from tests.serving import BRING_UP, a_request, fake_command, python, record_of, stub_model, until, written_pid


def test_stop_while_it_is_starting_ends_both_sides(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    with python(BRING_UP, str(deployments), str(model), "--hang-in-load", stderr=subprocess.PIPE) as launcher:
        until(lambda: read_all(deployments) and record_of(deployments).pid)
        assert take_down(deployments, "m").was is DeploymentState.STARTING
        _, errors = launcher.communicate(timeout=60)
    assert b"EngineFailed: m was stopped before it was ready" in errors
    assert read_all(deployments) == ()


def test_a_broken_record_still_finds_its_process(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    deployment = bring_up(deployments, request)
    (deployments / "m.json").write_text("{ half")
    with pytest.raises(UsageError, match="the record of m cannot be used: it is not JSON"):
        bring_up(deployments, request)
    assert take_down(deployments, "m") == TakenDown(name="m", was=DeploymentState.RUNNING, pid=None)
    assert deployment.pid is not None
    assert not lives(deployment.pid)
    assert read_all(deployments) == ()


def test_a_tree_with_a_deaf_grandchild_is_ended(deployments: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = fake_command("--spawn-grandchild", str(pid_file), "--leave-session", "--ignore-sigterm")
    deployment = bring_up(deployments, a_request("m", command, stub_model(tmp_path)))
    grandchild = written_pid(pid_file)
    assert deployment.pid is not None
    take_down(deployments, "m", grace_s=0.2)
    assert (lives(deployment.pid), lives(grandchild)) == (False, False)
