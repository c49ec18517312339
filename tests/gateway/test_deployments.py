"""What a deployment is seen to take, and what is free beside it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.commands.here import here_with
from launcher.deployment.history import HistoryEntry, Identity
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Phase
from launcher.deployment.records import make_private, save_record
from launcher.engine.find import Engine, EngineSource
from launcher.gateway.deployments import Deployments, seen_bytes
from launcher.machine.probe.devices import DriverReport
from launcher.machine.probe.nvidia import NvidiaReading, cuda_devices
from launcher.machine.probe.probe import Hardware, read_hardware
from launcher.units import GIB
from tests.deployment.recorded import ME, NOBODY, a_deployment
from tests.machine.probe.records import RTX_3090


def entry(name: str, outcome: str = "ready", **grown: int) -> HistoryEntry:
    return HistoryEntry(
        at="2026-11-30T00:00:00+00:00", name=name, model_id="m", identity=Identity(plan="p", engine=None, driver=None),
        outcome=outcome, load_s=1.0, driver_bytes=grown,
    )  # fmt: skip


def test_what_drivers_saw_replaces_what_was_planned() -> None:
    deployment = a_deployment("m", options=SupervisorOptions(devices={"CUDA0": "GPU-1"}))
    planned = {"ram": 10, "GPU-1": 20}
    history = (entry("m", CUDA0=5), entry("other", CUDA0=7), entry("m", CUDA0=23))
    assert seen_bytes(planned, deployment, history) == {"ram": 10, "GPU-1": 23}
    # nothing was seen, or of another load
    assert seen_bytes(planned, deployment, ()) == planned
    assert seen_bytes(planned, deployment, (entry("m"),)) == planned
    assert seen_bytes(planned, deployment, (entry("m", CUDA0=23), entry("m", "failed", CUDA0=1))) == planned
    assert seen_bytes(planned, deployment, (entry("m", CUDA7=23),)) == planned


@pytest.mark.parametrize(
    ("line", "n_asked"),
    [
        ("CUDA0: NVIDIA GeForce RTX 3090 (24121 MiB, 23800 MiB free)", 1),
        (
            "Vulkan0: NVIDIA GeForce RTX 3090 (24121 MiB, 23800 MiB free)",
            3,
        ),  # it sees other figures than NVML
        ("(none)", 3),
    ],
)
def test_the_engine_is_not_asked_again_where_it_lists_what_drivers_tell(
    line: str, n_asked: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices, _ = cuda_devices(NvidiaReading(gpus=(RTX_3090,)), {}, 128 * GIB, 100 * GIB)
    hardware = replace(
        read_hardware(tmp_path, os.environ), drivers=DriverReport(devices=devices, all_nvidia=devices)
    )
    asked: list[str] = []

    def ask_engine(_path: Path, argument: str, **_: Any) -> str:
        asked.append(argument)
        return f"Available devices:\n  {line}\n"

    def look(*_: object) -> Hardware:
        return hardware

    monkeypatch.setattr("launcher.commands.probe.read_hardware", look)
    monkeypatch.setattr("launcher.engine.devices.ask_engine", ask_engine)
    engine = Engine(path=tmp_path / "llama-server", folder=tmp_path, source=EngineSource.OPTION)
    monkeypatch.setattr("launcher.gateway.deployments.engine_or_none", lambda *_: engine)
    deployments = Deployments(here_with())
    first, *others = (deployments.read_memory() for _ in range(3))
    assert others == [first, first]
    assert asked == ["--list-devices"] * n_asked


def test_a_server_that_is_started_again_keeps_its_place_and_its_memory() -> None:
    here = here_with()
    folder = here.settings.deployments_dir
    make_private(folder)
    kept = SupervisorOptions(keep_up=True, claim={"ram": 5})
    # it was killed just now; it is being loaded again; nobody starts it again; it was never ready
    save_record(folder, a_deployment("killed", process=NOBODY, supervisor=ME, options=kept))
    again = Phase.STARTING
    save_record(folder, a_deployment("loads", phase=again, restarts=1, supervisor=ME, options=kept))
    save_record(folder, a_deployment("left", process=NOBODY, supervisor=ME))
    save_record(folder, a_deployment("first", phase=again, supervisor=ME, options=kept))

    found = Deployments(here).find_all()
    assert [(each.name, each.needs) for each in found] == [("killed", {"ram": 5}), ("loads", {"ram": 5})]


def test_a_gang_that_lost_a_machine_is_found_and_ranks_and_dead_ones_are_not() -> None:
    here = here_with()
    folder = here.settings.deployments_dir
    make_private(folder)
    gang = SupervisorOptions(keep_up=True, nodes=("box",))
    # its server has just ended, and its supervisor lives
    save_record(folder, a_deployment("lost", process=NOBODY, supervisor=ME, options=gang))
    again = Phase.STARTING
    save_record(folder, a_deployment("again", phase=again, restarts=1, supervisor=ME, options=gang))
    save_record(folder, a_deployment("first", phase=again, supervisor=ME, options=gang))
    save_record(folder, a_deployment("dead", process=NOBODY, supervisor=NOBODY, options=gang))
    save_record(folder, a_deployment("rank.0", supervisor=ME, options=SupervisorOptions(epoch=3)))

    assert [running.name for running in Deployments(here).find_all()] == ["again", "lost"]
