import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.deploy import attend, bring_up
from launcher.deployment.identity import lives
from launcher.deployment.record import Phase
from launcher.deployment.records import read_all, save_record
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.takedown import TakenDown, take_down
from launcher.engine.client import list_model_ids
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.progress import Step
from tests.serving import BRING_UP, FAKE, a_request, fake_command, python, record_of, stub_model, until


def test_up_answers_and_down_leaves_nothing(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command("--alias", "mine"), stub_model(tmp_path)))
    assert list_model_ids(deployment.url) == ("mine",)
    assert record_of(deployments) == deployment
    assert (read_status(deployment).state, deployment.phase) == (DeploymentState.RUNNING, Phase.READY)
    assert deployment.pid is not None
    assert take_down(deployments, "m") == TakenDown(name="m", was=DeploymentState.RUNNING, pid=deployment.pid)
    assert not lives(deployment.pid)
    assert read_all(deployments) == ()
    with pytest.raises(NotFound, match="no deployment is called m"):
        take_down(deployments, "m")


def test_a_second_up_of_the_same_plan_finds_it(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    first = bring_up(deployments, request)
    assert bring_up(deployments, request) == first
    assert bring_up(deployments, replace(request, port=first.port)) == first


def test_a_second_up_of_another_plan_is_refused(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    first = bring_up(deployments, request)
    for changed in (replace(request, plan_hash="f" * 16), replace(request, port=first.port + 1)):
        with pytest.raises(UsageError, match="m runs already, with another plan") as caught:
            bring_up(deployments, changed)
        assert caught.value.hint == "launcher stop m"
    assert read_status(first).state is DeploymentState.RUNNING


def test_two_at_once_start_one(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command("--load-seconds", "0.5"), stub_model(tmp_path))
    steps: list[Step] = []
    with ThreadPoolExecutor(2) as pool:
        ups = [pool.submit(bring_up, deployments, request, on_progress=steps.append) for _ in range(2)]
        first, second = (up.result() for up in ups)
    assert first == second
    assert "wait" in {step.phase for step in steps}


def test_a_port_in_use_is_refused_before_the_start(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} on 127.0.0.1 is in use by .*pid {os.getpid()}"):
            bring_up(deployments, a_request("m", fake_command(), model, port=port))
    assert read_all(deployments) == ()
    assert not (deployments / "m.log").exists()
    first = bring_up(deployments, a_request("first", fake_command(), model))
    with pytest.raises(UsageError, match=rf"port {first.port} is in use by the deployment first"):
        bring_up(deployments, a_request("m", fake_command(), model, port=first.port))


def test_a_port_lost_in_the_race_is_said(deployments: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = (sys.executable, str(FAKE), "-m", str(stub_model(tmp_path)), "--port", str(port))
        request = a_request("m", command, tmp_path / "stub.gguf", argv_for=lambda _port: command)
        with pytest.raises(EngineFailed, match=f"m: port {port} on 127.0.0.1 was taken by another process"):
            bring_up(deployments, request)
    assert read_all(deployments) == ()


def test_a_dead_one_is_replaced(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    first = bring_up(deployments, request)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: read_status(record_of(deployments)).state is DeploymentState.FAILED)
    assert (read_status(record_of(deployments)).detail or "").startswith(
        "llama-server was killed by signal 9"
    )
    second = bring_up(deployments, replace(request, plan_hash="f" * 16))
    assert (read_status(second).state, second.pid != first.pid) == (DeploymentState.RUNNING, True)


def test_ctrl_c_while_loading_leaves_nothing(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    launcher = python(
        BRING_UP,
        str(deployments),
        str(model),
        "--hang-in-load",
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with launcher:
        until(lambda: read_all(deployments) and record_of(deployments).pid)
        pid = record_of(deployments).pid
        launcher.send_signal(signal.SIGINT)
        _, errors = launcher.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert pid is not None
    assert not lives(pid)
    assert read_all(deployments) == ()


def test_a_launcher_killed_mid_start_is_explained_and_cleaned(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    with python(BRING_UP, str(deployments), str(model), "--hang-in-load") as launcher:
        until(lambda: read_all(deployments) and record_of(deployments).pid)
        assert read_status(record_of(deployments)).state is DeploymentState.STARTING
        launcher.kill()
    left = record_of(deployments)
    status = read_status(left)
    assert (status.state, status.detail) == (
        DeploymentState.STARTING,
        "its launcher ended before it was ready; take it over with up, end it with stop m",
    )
    assert left.pid is not None
    assert take_down(deployments, "m") == TakenDown(name="m", was=DeploymentState.STARTING, pid=left.pid)
    assert not lives(left.pid)
    assert read_all(deployments) == ()


def test_a_launcher_killed_before_it_wrote_the_pid_loses_nothing(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    save_record(
        deployments, replace(deployment, process=None, phase=Phase.STARTING, starter=None, supervisor=None)
    )
    assert read_status(record_of(deployments)).state is DeploymentState.GONE
    take_down(deployments, "m")
    assert deployment.pid is not None
    assert not lives(deployment.pid)


def test_up_takes_over_from_a_launcher_that_died(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    with python(BRING_UP, str(deployments), str(model), "--load-seconds", "1") as launcher:
        until(lambda: read_all(deployments) and record_of(deployments).pid)
        launcher.kill()
    left = record_of(deployments)
    taken = bring_up(deployments, a_request("m", fake_command(), model))
    assert (taken.process, taken.phase) == (left.process, Phase.READY)


def test_one_on_another_host_is_left_alone(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    deployment = bring_up(deployments, request)
    assert deployment.process is not None
    away = replace(deployment, process=replace(deployment.process, hostname="bigbox", boot_id="b"))
    save_record(deployments, away)
    for use in (lambda: take_down(deployments, "m"), lambda: bring_up(deployments, request)):
        with pytest.raises(UsageError, match=rf"m runs on another host \(pid {deployment.pid} on bigbox\)"):
            use()
    save_record(deployments, deployment)


def test_the_foreground_ends_with_ctrl_c_and_sigterm(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as cli/main.py has it
    try:
        with pytest.raises(KeyboardInterrupt):
            attend(deployments, deployment)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert read_status(deployment).state is DeploymentState.GONE
    assert read_all(deployments) == ()


def test_the_foreground_tells_why_it_ended(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    assert deployment.pid is not None
    os.kill(deployment.pid, signal.SIGABRT)
    with pytest.raises(EngineFailed, match=re.escape("m: llama-server was ended by signal 6 (SIGABRT)")):
        attend(deployments, deployment)
    assert read_all(deployments) == ()


def test_the_foreground_returns_when_it_was_stopped(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    with ThreadPoolExecutor(1) as pool:
        attending = pool.submit(attend, deployments, deployment)
        take_down(deployments, "m")
        attending.result(timeout=60)


def test_up_finishes_a_stop_that_was_cut_short(deployments: Path, tmp_path: Path) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path))
    first = bring_up(deployments, request)
    save_record(deployments, replace(first, phase=Phase.STOPPING))
    second = bring_up(deployments, request)
    assert second.process != first.process
    assert (read_status(first).state, read_status(second).state) == (
        DeploymentState.GONE,
        DeploymentState.RUNNING,
    )


def test_a_request_without_a_key_stays_on_loopback(deployments: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no API key is set"):
        bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), host="0.0.0.0"))
    assert read_all(deployments) == ()
