"""The supervisor as a process of its own, with the fake engine: kept up, given up, killed, asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from launcher.deployment import claims, history
from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import Presence, find_presence, lives
from launcher.deployment.options import supervisor_command
from launcher.deployment.process import MARKER
from launcher.deployment.record import Phase
from launcher.deployment.records import read_all
from launcher.deployment.reserved import count_reserved
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.deployment.takedown import take_down
from launcher.engine.client import list_model_ids
from launcher.errors import NotFound
from launcher.plan.amounts import RAM
from launcher.plan.from_json import stored
from launcher.progress import Step
from tests.fake_nvml import nvml_library
from tests.plan.planned import small_plan
from tests.serving import BRING_UP, a_request, fake_command, python, record_of, stub_model, until


def state_of(folder: Path) -> DeploymentState:
    return read_status(record_of(folder)).state


def test_one_that_dies_comes_back_on_its_port(deployments: Path, tmp_path: Path) -> None:
    first = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: record_of(deployments).restarts == 1 and state_of(deployments) is DeploymentState.RUNNING)
    second = record_of(deployments)
    assert second.pid != first.pid
    assert (second.supervisor, second.port) == (first.supervisor, first.port)
    assert second.failure is not None
    assert second.failure.sentence.startswith("llama-server was killed by signal 9")
    assert list_model_ids(second.url)
    log = Path(second.log_path).read_text()
    assert "launcher: llama-server was killed by signal 9" in log
    assert log.count("listening on") == 2
    assert take_down(deployments, "m").was is DeploymentState.RUNNING
    assert read_all(deployments) == ()


def test_while_it_waits_it_says_so_and_can_be_stopped(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert deployment.pid is not None
    os.kill(deployment.pid, signal.SIGABRT)
    until(lambda: record_of(deployments).phase is Phase.BACKOFF)
    status = read_status(record_of(deployments))
    assert status.state is DeploymentState.BACKOFF
    assert status.detail == "it is started again soon: llama-server was ended by signal 6 (SIGABRT)"
    assert take_down(deployments, "m").was is DeploymentState.BACKOFF
    assert deployment.supervisor is not None
    assert find_presence(deployment.supervisor) is Presence.GONE


def test_one_that_is_not_kept_up_has_failed(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(
        deployments, a_request("m", fake_command("--crash-after", "1"), stub_model(tmp_path))
    )
    until(lambda: record_of(deployments).phase is Phase.FAILED)
    status = read_status(record_of(deployments))
    assert (status.state, status.detail) == (
        DeploymentState.FAILED,
        "llama-server was ended by signal 6 (SIGABRT)",
    )
    assert deployment.supervisor is not None
    until(lambda: find_presence(deployment.supervisor) is Presence.GONE)  # type: ignore[arg-type]
    assert take_down(deployments, "m").was is DeploymentState.FAILED


def test_a_killed_supervisor_takes_its_server_with_it_and_ps_says_so(
    deployments: Path, tmp_path: Path
) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert deployment.supervisor is not None
    assert deployment.pid is not None
    os.kill(deployment.supervisor.pid, signal.SIGKILL)
    until(lambda: not lives(deployment.pid or 0))
    until(lambda: state_of(deployments) is DeploymentState.GONE)
    detail = f"its supervisor (pid {deployment.supervisor.pid}) was killed, and llama-server with it"
    assert read_status(record_of(deployments)).detail == detail
    again = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    assert read_status(again).state is DeploymentState.RUNNING


def test_a_supervisor_killed_while_it_loads_leaves_nothing(deployments: Path, tmp_path: Path) -> None:
    with python(
        BRING_UP, str(deployments), str(stub_model(tmp_path)), "--hang-in-load", stderr=-1
    ) as launcher:
        until(lambda: read_all(deployments) and record_of(deployments).pid)
        record = record_of(deployments)
        assert record.supervisor is not None
        os.kill(record.supervisor.pid, signal.SIGKILL)
        _, errors = launcher.communicate(timeout=60)
    assert f"m: its supervisor (pid {record.supervisor.pid}) was killed".encode() in errors
    assert not lives(record.pid or 0)
    assert read_all(deployments) == ()


def test_sigterm_to_the_supervisor_is_a_stop(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert deployment.supervisor is not None
    os.kill(deployment.supervisor.pid, signal.SIGTERM)
    until(lambda: read_all(deployments) == ())
    until(lambda: find_presence(deployment.supervisor) is Presence.GONE)  # type: ignore[arg-type]
    assert not lives(deployment.pid or 0)
    assert "exit command received" in Path(deployment.log_path).read_text()


def test_nothing_of_it_is_readable_or_dumps_core(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    assert deployment.pid is not None
    server = psutil.Process(deployment.pid)
    assert server.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert Path(f"/proc/{deployment.pid}/oom_score_adj").read_text().strip() == "500"
    assert server.environ()[MARKER].endswith("m.json")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in deployments.glob("m.*")}
    private = dict.fromkeys(("m.json", "m.log", "m.port"), "0o600")
    assert modes == private | {"m.lock": modes["m.lock"]}


def test_it_is_small_and_does_nothing_while_nothing_happens(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert deployment.supervisor is not None
    supervisor = psutil.Process(deployment.supervisor.pid)
    assert supervisor.memory_info().rss < 60 << 20
    before = supervisor.num_ctx_switches()
    time.sleep(1.0)  # a second in which nothing happens is what is looked at
    assert supervisor.num_ctx_switches().voluntary - before.voluntary < 20


def test_the_protocol_s_progress_reaches_whoever_waits(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    os.truncate(model, 1 << 40)
    steps: list[Step] = []
    request = a_request("m", fake_command("--load-seconds", "2"), model)
    bring_up(deployments, request, on_progress=steps.append)
    seen = {step.done for step in steps if step.phase == "load"}
    assert max(seen) >= (1 << 40) // 10, "less than the protocol told"
    assert not (deployments / "m.progress").exists()


def test_the_canary_finds_what_dies_at_a_long_prompt(deployments: Path, tmp_path: Path) -> None:
    command = fake_command("-c", "2048", "--die-at-long-prompt", "1024")
    model = stub_model(tmp_path)
    bring_up(deployments, a_request("without", command, model))
    with pytest.raises(LoadFailed, match="m: llama-server ran out of memory") as caught:
        bring_up(deployments, a_request("m", command, model, canary=True))
    assert caught.value.cause.kind == "out_of_memory"
    steps: list[Step] = []
    bring_up(deployments, a_request("well", fake_command(), model, canary=True), on_progress=steps.append)


def test_an_engine_that_is_not_there_is_named(deployments: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="the engine /no/engine does not exist"):
        bring_up(deployments, a_request("m", ("/no/engine",), stub_model(tmp_path)))
    assert read_all(deployments) == ()


def test_one_that_does_not_answer_is_degraded(deployments: Path, tmp_path: Path) -> None:
    command = fake_command("--deaf-after", "2")
    bring_up(deployments, a_request("m", command, stub_model(tmp_path), check_s=0.2))
    until(lambda: record_of(deployments).phase is Phase.DEGRADED)
    status = read_status(record_of(deployments))
    assert (status.state, status.detail) == (
        DeploymentState.DEGRADED,
        "llama-server runs, and does not answer",
    )
    assert take_down(deployments, "m", grace_s=0.5).was is DeploymentState.DEGRADED


def test_what_was_promised_is_claimed_until_it_ends(deployments: Path, tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    notes = {"claim": {"GPU-1": 7, RAM: 1 << 50}, "claim_folder": str(folder)}
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), **notes))
    [claim] = claims.read_claims(folder)
    assert (claim.name, claim.process, claim.loaded) == ("m", deployment.supervisor, True)
    assert set(count_reserved((claim,)).rows) == {RAM}
    take_down(deployments, "m")
    assert claims.read_claims(folder) == ()


def test_every_load_is_in_the_history(deployments: Path, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    request = a_request("m", fake_command(), stub_model(tmp_path), keep_up=True, history=str(file))
    deployment = bring_up(deployments, request)
    assert deployment.pid is not None
    os.kill(deployment.pid, signal.SIGABRT)
    until(lambda: len(history.read_history(file)) == 3)
    first, second, third = history.read_history(file)
    assert [entry.outcome for entry in (first, second, third)] == ["ready", "failed", "ready"]
    assert second.cause == "llama-server was ended by signal 6 (SIGABRT)"
    assert first.load_s is not None
    assert second.load_s == first.load_s  # not how long it was up


def test_what_the_driver_says_is_progress_and_history(deployments: Path, tmp_path: Path) -> None:
    # A stand-in for NVML says that 20000 MiB more are in use once the fake engine has loaded the half.
    # llama-server's own last report is 0.9 of the 20 GiB.
    used, file, model = tmp_path / "used", tmp_path / "history.jsonl", stub_model(tmp_path)
    os.truncate(model, 20 << 30)
    plan = stored(small_plan("CUDA0", "CUDA1"))
    request = a_request(
        "m",
        fake_command("--load-seconds", "2", "--take-vram", str(used), "20000"),
        model,
        stored_plan=plan,
        history=str(file),
        devices={"CUDA0": "GPU-1", "CUDA1": "GPU-2"},
    )
    library = {
        "LD_LIBRARY_PATH": str(nvml_library(tmp_path)),
        "FAKE_NVML": "two",
        "FAKE_NVML_USED": str(used),
    }
    steps: list[Step] = []
    bring_up(deployments, replace(request, env={**request.env, **library}), on_progress=steps.append)
    [entry] = history.read_history(file)
    assert entry.driver_bytes == {"CUDA0": 20000 << 20}  # CUDA1 shares the host's memory, and says nothing
    assert max(step.done for step in steps if step.phase == "load") == 20000 << 20


def test_a_supervisor_that_is_started_again_takes_its_deployment_up(
    deployments: Path, tmp_path: Path
) -> None:
    # As systemd does it; here by hand.
    first = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert first.supervisor is not None
    argv = psutil.Process(first.supervisor.pid).cmdline()
    assert subprocess.run(argv, check=False).returncode == 0, "somebody else supervises it"
    os.kill(first.supervisor.pid, signal.SIGKILL)
    until(lambda: not lives(first.pid or 0))
    env = {**os.environ, MARKER: str(deployments / "m.json"), "LLAMA_ARG_THREADS": "1"}
    with subprocess.Popen(argv, env=env, start_new_session=True) as again:
        until(lambda: record_of(deployments).phase is Phase.READY and record_of(deployments).restarts == 1)
        second = record_of(deployments)
        assert second.supervisor is not None
        assert (second.supervisor.pid, second.port) == (again.pid, first.port)
        assert second.failure is not None
        assert second.failure.sentence.startswith(f"its supervisor (pid {first.supervisor.pid}) was killed")
        assert "LLAMA_ARG_THREADS" not in psutil.Process(second.pid).environ()
        take_down(deployments, "m")
        assert again.wait(60) == 0


def test_one_that_is_given_up_is_not_to_be_started_again(deployments: Path, tmp_path: Path) -> None:
    deployment = bring_up(
        deployments, a_request("m", fake_command("--crash-after", "1"), stub_model(tmp_path))
    )
    until(lambda: record_of(deployments).phase is Phase.FAILED)
    argv = supervisor_command(deployments / "m.json")
    assert subprocess.run(argv, check=False).returncode == 0
    assert record_of(deployments).failure is not None
    assert deployment.pid == record_of(deployments).pid
