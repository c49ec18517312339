"""What a deployment is right now: by its record and processes, and by asking the server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.record import (
    Phase,
)
from launcher.deployment.status import DeploymentState, Status, ask_status, read_status
from tests.deployment.recorded import ELSEWHERE, ME, NOBODY, a_deployment
from tests.serving import a_request, fake_command, stub_model, until


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Status(state=DeploymentState.RUNNING)),
        ({"phase": Phase.STOPPING}, Status(state=DeploymentState.RUNNING, detail="it is being stopped")),
        ({"phase": Phase.STARTING, "starter": ME}, Status(state=DeploymentState.STARTING)),
        (
            {"phase": Phase.STARTING},
            Status(
                state=DeploymentState.STARTING,
                detail="its launcher ended before it was ready; take it over with up, end it with stop m",
            ),
        ),
        ({"phase": Phase.STARTING, "process": None, "starter": ME}, Status(state=DeploymentState.STARTING)),
        (
            {"phase": Phase.STARTING, "process": None},
            Status(state=DeploymentState.GONE, detail="its launcher ended before llama-server was started"),
        ),
        (
            {"process": NOBODY},
            Status(state=DeploymentState.GONE, detail=f"llama-server (pid {os.getpid()}) ended"),
        ),
        (
            {"process": NOBODY, "phase": Phase.STARTING},
            Status(
                state=DeploymentState.GONE,
                detail=f"llama-server (pid {os.getpid()}) ended before it was ready",
            ),
        ),
        ({"process": ELSEWHERE}, Status(state=DeploymentState.OTHER_HOST, detail="pid 77 on bigbox")),
    ],
)
def test_a_look_believes_the_process_only(changes: dict[str, object], expected: Status) -> None:
    assert read_status(a_deployment(**changes)) == expected


def test_one_that_is_frozen_is_seen_at_once(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    assert deployment.pid is not None
    assert ask_status(deployment).status.state is DeploymentState.RUNNING
    os.kill(deployment.pid, signal.SIGSTOP)
    until(lambda: psutil.Process(deployment.pid).status() == psutil.STATUS_STOPPED)
    status = ask_status(deployment).status
    assert status.state is DeploymentState.DEGRADED
    assert (
        status.detail
        == f"llama-server (pid {deployment.pid}) is frozen (SIGSTOP); kill -CONT {deployment.pid} lets it go on"
    )
    os.kill(deployment.pid, signal.SIGCONT)
    until(lambda: ask_status(deployment).status.state is DeploymentState.RUNNING)


def test_one_that_is_deaf_is_seen_before_its_supervisor_asks(deployments: Path, tmp_path: Path) -> None:
    command = fake_command("--deaf-after", "1")
    deployment = bring_up(deployments, a_request("m", command, stub_model(tmp_path)))
    until(lambda: ask_status(deployment).status.state is DeploymentState.DEGRADED)
    assert ask_status(deployment).status.detail == "llama-server runs, and does not answer within 5 s"
