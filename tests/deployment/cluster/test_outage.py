"""Outages of machines that are network namespaces, in short: `scripts/bench outage` has them long."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from tests.conftest import missing
from tests.deployment.cluster.machines import Lab, Machine, eventually, machines, why_not


@pytest.fixture
def folder(tmp_path: Path, engine: Engine) -> Path:
    if (problem := why_not()) is not None:
        pytest.skip(problem)
    if not (engine.folder / "ggml-rpc-server").exists():
        raise missing("this engine has no ggml-rpc-server")
    return tmp_path


def _lost(lab: Lab, machine: Machine) -> bool:
    return f"the rank on {machine.name}" in lab.log()


@pytest.mark.engine
def test_a_partition_leaves_no_server_there_and_heals_by_itself(
    folder: Path, engine: Engine, default_model: Path
) -> None:
    with machines(folder, engine, 1) as lab:
        (box,) = lab.peers
        lab.join(box)
        url = lab.up(default_model)
        assert lab.answers(url)

        box.cut()

        assert eventually(lambda: _lost(lab, box)) < 15
        eventually(lambda: not lab.servers(), 15)  # its lease is over, though nobody can tell it
        assert not lab.answers(url)
        box.heal()
        assert eventually(lambda: lab.answers(url)) < 30
        assert len(lab.servers()) == 1


@pytest.mark.engine
def test_a_machine_that_is_gone_is_replaced_by_one_alike_and_not_missed_when_it_returns(
    folder: Path, engine: Engine, default_model: Path
) -> None:
    with machines(folder, engine, 2) as lab:
        for peer in lab.peers:
            lab.join(peer)
        url = lab.up(default_model)
        first, spare = lab.by_rank()
        assert first.processes("ggml-rpc-server")

        first.lose_power()

        assert eventually(lambda: _lost(lab, first)) < 15
        assert eventually(lambda: lab.answers(url)) < 30
        assert spare.processes("ggml-rpc-server")
        first.power_on()
        eventually(lambda: lab.answers(url))
        assert len(lab.servers()) == 1
        assert spare.processes("ggml-rpc-server")


@pytest.mark.engine
def test_without_a_machine_alike_another_layout_is_raised(
    folder: Path, engine: Engine, default_model: Path
) -> None:
    with machines(folder, engine, 2) as lab:
        whole, narrow = lab.peers
        lab.join(whole)
        lab.join(narrow, "taskset", "-c", "0")  # another class of machine: it has one processor
        url = lab.up(default_model)
        first, other = lab.by_rank()
        assert first.processes("ggml-rpc-server")

        first.lose_power()

        assert eventually(lambda: _lost(lab, first)) < 15
        assert eventually(lambda: lab.answers(url)) < 30
        assert f"another layout, over {other.name}" in lab.log()
        assert other.processes("ggml-rpc-server")
