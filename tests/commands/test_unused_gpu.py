"""A GPU that the engine cannot use is said before the start, and nothing starts unless that is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands import engine as engines
from launcher.commands.here import here_with
from launcher.engine.find import BuildRecord, Engine, EngineSource, Origin
from launcher.errors import EngineFailed
from launcher.machine.from_words import Words, adhoc_machine
from launcher.machine.machine import Backend, Device, Machine
from launcher.progress import Step
from tests.commands.test_engine_choice import BUILT
from tests.engine.sources.archives import RUNS, SCRIPT

CARD = Device(id="CUDA0", backend=Backend.CUDA, name="NVIDIA L4", total_bytes=22 << 30, free_bytes=21 << 30)


def machine(*cards: Device) -> Machine:
    return replace(adhoc_machine(Words(ram_bytes=64 << 30)), devices=cards)


LISTS = SCRIPT.format(build=1, devices='echo "  CUDA0: NVIDIA L4 (22000 MiB, 21000 MiB free)"')
SOFTWARE = SCRIPT.format(build=1, devices='echo "  Vulkan0: llvmpipe (LLVM 15) (9000 MiB, 9000 MiB free)"')


def check(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    box: Machine,
    *,
    accepted: bool = False,
    agrees: bool = False,
    build: BuildRecord | None = None,
) -> list[str]:
    program = tmp_path / "llama-server"
    program.write_text(script)
    program.chmod(0o755)
    said: list[Step] = []
    monkeypatch.setattr(engines, "machine_of", lambda *_: box)
    here = here_with(said.append, consent=lambda _: agrees)
    found = Engine(path=program, folder=tmp_path, source=EngineSource.OPTION, build=build)
    engines.refuse_unused_gpu(here, found, accepted=accepted)
    return [step.text for step in said]


@pytest.mark.parametrize("script", [RUNS, SOFTWARE])
def test_it_is_refused_with_the_one_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    with pytest.raises(
        EngineFailed, match=r"THE GPU IS NOT USED: NVIDIA L4 is here, and .* lists no device"
    ) as caught:
        check(monkeypatch, tmp_path, script, machine(CARD))
    assert caught.value.hint == (
        "launcher engine install takes one that uses it; to go on with the processor alone: --cpu"
    )


def test_where_the_best_of_others_does_not_use_it_a_build_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    origin = Origin(kind="release", made_by="ggml-org", file="llama.tar.gz", sha256="0" * 64)
    record = replace(BUILT, origin=origin)
    with pytest.raises(EngineFailed) as caught:
        check(monkeypatch, tmp_path, RUNS, machine(CARD), build=record)
    assert str(caught.value.hint).startswith("launcher engine build makes one that uses it; ")


def test_an_engine_with_a_gpu_backend_is_not_the_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libggml-cuda.so").touch()
    with pytest.raises(EngineFailed) as caught:
        check(monkeypatch, tmp_path, RUNS, machine(CARD))
    assert str(caught.value.hint).startswith("look at the GPU's driver")


@pytest.mark.parametrize(("accepted", "agrees"), [(True, False), (False, True)])
def test_accepted_it_goes_on_and_is_said_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, accepted: bool, agrees: bool
) -> None:
    (said,) = check(monkeypatch, tmp_path, RUNS, machine(CARD), accepted=accepted, agrees=agrees)
    assert said.startswith("THE GPU IS NOT USED")


def test_nothing_is_said_where_it_is_used_or_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert check(monkeypatch, tmp_path, LISTS, machine(CARD)) == []
    assert check(monkeypatch, tmp_path, RUNS, machine()) == []
