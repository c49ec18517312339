"""What is compiled, for which card, and what is asked before NVIDIA's compiler is fetched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands import engine_build
from launcher.commands.engine_build import BuildFor, build
from launcher.commands.here import Ask, Here, here_with
from launcher.engine.compile import cuda_packages
from launcher.engine.compile.job import BuildRequest
from launcher.errors import EngineFailed, UsageError
from launcher.machine.from_words import Words, adhoc_machine, named_devices
from launcher.machine.machine import Backend, Device
from launcher.progress import Step
from tests.cli.shell import launcher

CUDA = (Backend.CUDA,)
WITHOUT_NVCC = """
import launcher.engine.compile.cuda_packages as packages
import launcher.engine.compile.toolkits as toolkits
from launcher.errors import TryAgain

def fetch(*_, **__):
    raise TryAgain("fetched")

toolkits.has_nvcc = lambda: False
packages.are_for_this_machine = lambda: True
packages.fetch_toolkit = fetch
"""


def card(given: str | Device) -> Device:
    return given if isinstance(given, Device) else named_devices((given,), 1 << 36)[0]


class Builder:
    """Notes what would be built and fetched on a machine with these cards and no nvcc."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.requests: list[BuildRequest] = []
        self.fetched = 0
        self.said: list[str] = []
        monkeypatch.setenv("LAUNCHER_HOME", str(folder))
        monkeypatch.setattr(engine_build, "has_nvcc", lambda: False)
        monkeypatch.setattr(engine_build, "has_hip", lambda: False)
        monkeypatch.setattr(engine_build, "build_engines", self._note)
        monkeypatch.setattr(cuda_packages, "are_for_this_machine", lambda: True)
        monkeypatch.setattr(cuda_packages, "fetch_toolkit", self._fetch)

    def here(self, confirm: Ask) -> Here:
        return here_with(self._say, confirm=confirm)

    def build(self, wanted: BuildFor, *cards: str | Device, confirm: Ask = lambda _: True) -> BuildRequest:
        box = adhoc_machine(Words(ram_bytes=64 << 30))
        box = replace(box, devices=tuple(map(card, cards)))
        self.monkeypatch.setattr(engine_build, "machine_of", lambda *_: box)
        build(self.here(confirm), wanted, look=lambda: None)  # type: ignore[arg-type,return-value]
        return self.requests[-1]

    def _note(self, requests: list[BuildRequest], **_: object) -> tuple[()]:
        self.requests += requests
        return ()

    def _fetch(self, *_: object, **__: object) -> Path:
        self.fetched += 1
        return Path("/toolkit")

    def _say(self, step: Step) -> None:
        self.said.append(step.text)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    return Builder(monkeypatch, tmp_path)


def test_the_card_that_is_named_decides_what_is_compiled(builder: Builder) -> None:
    for wanted, backend, architectures in (
        (BuildFor(gpus=("3090",)), Backend.CUDA, ("86",)),
        (BuildFor(gpus=("3090:2", "H100")), Backend.CUDA, ("86", "90")),
        (BuildFor(gpus=("4090",), backends=CUDA), Backend.CUDA, ("89",)),
        (BuildFor(gpus=("7900 XTX",)), Backend.VULKAN, ()),
        (BuildFor(gpus=("3090",), backends=(Backend.CPU,)), Backend.CPU, ()),
    ):
        request = builder.build(wanted)
        assert (request.backend, request.architectures) == (backend, architectures)
    # in place of the card that is here
    assert builder.build(BuildFor(gpus=("3090",)), "4090").architectures == ("86",)
    assert builder.build(BuildFor(), "4090").architectures == ("89",)


def test_cuda_is_not_compiled_for_no_card(builder: Builder) -> None:
    with pytest.raises(UsageError, match="no NVIDIA card is seen here") as caught:
        builder.build(BuildFor(backends=CUDA))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("launcher engine build --backend cuda --gpu 3090")
    for gpu in ("24G", "7900 XTX"):  # a size has no compute capability
        with pytest.raises(UsageError, match=f"--gpu {gpu} does not tell which NVIDIA card"):
            builder.build(BuildFor(backends=CUDA, gpus=(gpu,)))
    assert not builder.fetched


def test_nvidia_s_compiler_is_fetched_only_when_agreed_to(builder: Builder) -> None:
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(
        EngineFailed, match=r"nobody agreed to fetch CUDA 13\.0 .*, 502\.0 MiB to fetch"
    ) as caught:
        builder.build(BuildFor(gpus=("3090",)), confirm=refuse)
    assert caught.value.hint == "launcher engine build --backend cuda --gpu 3090 -y"
    assert [text for text in builder.said if "502.0 MiB to fetch, 840.0 MiB on disk" in text]
    assert len(asked) == 1
    assert not builder.fetched
    assert builder.build(BuildFor(gpus=("3090",))).toolkit == Path("/toolkit")


def test_cards_and_drivers_that_its_compiler_has_dropped_are_said_before_it_is_fetched(
    builder: Builder,
) -> None:
    with pytest.raises(EngineFailed, match=r"CUDA 13\.0 makes no code for compute capability 6\.1"):
        builder.build(BuildFor(gpus=("3090", "GTX 1080 Ti")))
    old = replace(named_devices(("3090",), 1 << 36)[0], driver="570.86.10")
    with pytest.raises(EngineFailed, match=r"makes no code for NVIDIA's driver 570\.86\.10"):
        builder.build(BuildFor(), old)
    assert not builder.fetched


def test_where_nobody_can_be_asked_only_y_agrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ("engine", "build", "--backend", "cuda", "--gpu", "3090")
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_NVCC)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    refused = launcher(*words)
    assert refused.returncode == 5, refused.stderr
    assert "502.0 MiB to fetch" in refused.stderr
    assert "nobody can be asked, so yes" not in refused.stderr
    assert refused.stderr.splitlines()[-1] == "hint: launcher engine build --backend cuda --gpu 3090 -y"
    agreed = launcher(*words, "-y")
    assert agreed.returncode == 6
    assert "error: fetched\n" in agreed.stderr
