"""Which machine is planned for, and which engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands import probe as commands_probe
from launcher.commands.engine import engine_or_none
from launcher.commands.here import here_with
from launcher.commands.probe import MachineChoice, machine_names, measure, probe, save_machine
from launcher.engine.find import backends_in
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import MemoryPool
from launcher.system.settings import read_settings
from launcher.units import GIB


def test_a_saved_machine_is_the_machine(tmp_path: Path) -> None:
    here = here_with()
    machine = probe(here)
    save_machine(machine, tmp_path / "here.toml")
    assert probe(here, MachineChoice(name=str(tmp_path / "here.toml"))) == machine


def test_machines_are_known_by_name_and_the_users_own_win() -> None:
    settings = read_settings()
    assert "8xh200-141g" in machine_names(settings)
    own = settings.own_profiles_dir / "machines"
    own.mkdir(parents=True)
    save_machine(
        probe(here_with(), MachineChoice(gpus=("3060",), ram_bytes=8 * GIB)), own / "laptop-16g.toml"
    )
    assert probe(here_with(), MachineChoice(name="laptop-16g")).ram_total_bytes == 8 * GIB


def test_gpus_and_ram_make_a_machine() -> None:
    machine = probe(here_with(), MachineChoice(gpus=("3090:2", "3060"), ram_bytes=128 * GIB))
    assert [device.id for device in machine.devices] == ["CUDA0", "CUDA1", "CUDA2"]
    assert machine.ram_total_bytes == 128 * GIB


@pytest.mark.parametrize(
    ("choice", "error", "sentence"),
    [
        (MachineChoice(name="no-such-box"), NotFound, "no machine is called 'no-such-box'"),
        (MachineChoice(name="laptop-16g", ram_bytes=GIB), UsageError, "name two machines"),
        (MachineChoice(gpus=("3090",)), UsageError, "--gpu needs --ram"),
        (MachineChoice(gpus=("voodoo2",), ram_bytes=GIB), NotFound, "voodoo2"),
    ],
)
def test_a_machine_that_cannot_be(choice: MachineChoice, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        probe(here_with(), choice)


def test_without_an_engine_there_is_none_and_a_named_one_must_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine_or_none(here_with(), None) is None
    with pytest.raises(NotFound, match="missing does not exist"):
        engine_or_none(here_with(), tmp_path / "missing")


def test_backends_are_the_libraries_beside_the_engine(tmp_path: Path) -> None:
    for name in ("libggml-base.so.0", "libggml-cpu.so", "libggml-vulkan.so.0.25.3", "libllama.so"):
        (tmp_path / name).touch()
    assert backends_in(tmp_path) == ("cpu", "vulkan")


def test_each_numa_node_is_measured_on_its_own_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def read(threads: int, available_bytes: int, cpus: Sequence[int] = ()) -> int:
        assert available_bytes > 0
        asked.append((threads, tuple(cpus)))
        return 10**9 * (1 + len(asked))

    monkeypatch.setattr(commands_probe, "measure_ram", read)
    here = here_with()
    box = probe(here, MachineChoice(cpu="EPYC 9354", ram_bytes=64 * GIB))
    nodes = [
        MemoryPool(node=number, total_bytes=32 * GIB, free_bytes=30 * GIB, cpus=cpus)
        for number, cpus in enumerate([(0, 1), (2, 3), ()])  # the last is a card's or CXL memory
    ]
    cpu = replace(box.cpu, logical_cores=4, physical_cores=4, performance_cores=4, affinity=4)
    measured = measure(here, replace(box, cpu=cpu, nodes=tuple(nodes)))
    assert asked == [(4, ()), (2, (0, 1)), (2, (2, 3))]
    assert measured.node_rates == (("0", 3 * 10**9), ("1", 4 * 10**9))
    assert measure(here, replace(box, cpu=cpu, nodes=tuple(nodes[:1]))).node_rates == ()
