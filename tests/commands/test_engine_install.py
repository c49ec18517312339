"""Without a SOURCE the first that arrives and runs is taken; what could not be asked is said."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from launcher.commands import engine_build, engine_install
from launcher.commands.engine_install import find_prebuilt, install
from launcher.commands.here import Here, here_with
from launcher.commands.probe import look_once
from launcher.engine.find import EngineSource
from launcher.engine.sources.fit import HostFacts
from launcher.engine.sources.native import what_a_build_brings
from launcher.engine.sources.wheel import _FLAGS
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import Backend
from launcher.progress import Step
from tests.engine.sources.archives import TAG, engine_archive
from tests.fakes.releases import Releases, serve_releases

FACTS = HostFacts(system="linux", arch="x64", glibc=(2, 39), libstdcxx=33, has_vulkan=True)
NAME = f"llama-{TAG}-bin-ubuntu-x64.tar.gz"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, releases: Releases, said: list[str]) -> Here:
    monkeypatch.setenv("PATH", str(tmp_path))  # no llama-server
    monkeypatch.setattr(engine_install, "read_host_facts", lambda _: FACTS)

    def listen(step: Step) -> None:
        if step.is_remark:
            said.append(step.text)

    return here_with(listen, confirm=lambda _: True)


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    with serve_releases() as running:
        running.published[TAG] = {NAME: engine_archive()}
        monkeypatch.setenv("LAUNCHER_RELEASES", running.url)
        yield running


def kinds(here: Here) -> list[str]:
    return [each.offer.kind for each in find_prebuilt(here, None, look_once(here))]


def test_the_release_comes_first_and_nothing_is_said_of_what_is_not_needed(
    here: Here, said: list[str]
) -> None:
    assert kinds(here) == ["release"]  # the wheel needs another processor
    assert said == []


def test_the_wheel_where_the_releases_cannot_be_asked(
    here: Here, releases: Releases, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    able = dataclasses.replace(FACTS, cpu_flags=_FLAGS)
    monkeypatch.setattr(engine_install, "read_host_facts", lambda _: able)
    assert kinds(here) == ["release", "wheel"]
    releases.limited = 403
    assert kinds(here) == ["wheel"]
    assert "answers no more requests from this address until" in said[-1]


def test_one_that_uses_the_gpu_comes_before_one_that_does_not(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = dataclasses.replace(FACTS, cpu_flags=_FLAGS, has_amd=True, has_vulkan=False)
    monkeypatch.setattr(engine_install, "read_host_facts", lambda _: able)
    found = find_prebuilt(here, None, look_once(here))
    # the release's Vulkan needs a loader, which the wheel brings
    assert [(each.offer.kind, each.offer.expects_gpu) for each in found] == [
        ("wheel", True),
        ("release", False),
        ("wheel", False),
    ]


def test_a_first_up_installs_what_is_built_already_and_builds_nothing(
    here: Here, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_build, "build", lambda *_, **__: pytest.fail("it was built"))
    engine = engine_build.engine_or_build(here, None, nullcontext)
    assert engine.source is EngineSource.INSTALLED
    assert any(text.startswith(f"took llama.cpp {TAG} for CPU, built by") for text in said)
    assert said[-1] == what_a_build_brings("release")
    assert said[-1].startswith("on the processor it generates 1.02x the tokens of a native build, measured")


def test_a_build_is_announced_with_its_time(
    here: Here, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_build, "find_prebuilt", lambda *_: ())
    built = object()
    monkeypatch.setattr(engine_build, "build", lambda *_, **__: (built,))
    assert engine_build.engine_or_build(here, None, nullcontext) is built
    assert said == ["llama.cpp is compiled for this machine, once: 7 minutes on 2 cores"]


def test_who_says_no_gets_none(here: Here) -> None:
    refusing = dataclasses.replace(here, confirm=lambda _: False)
    with pytest.raises(NotFound, match="no engine"):
        engine_build.engine_or_build(refusing, None, nullcontext)
    assert not list(here.settings.engines_dir.glob("b*"))


def test_nothing_that_runs_anywhere_is_one_sentence(here: Here, releases: Releases, said: list[str]) -> None:
    releases.status = 500
    with pytest.raises(NotFound, match="no engine that is built already runs on this machine"):
        install(here, None)
    assert len(said) == 2  # why, of each source


def test_none_for_a_backend_names_the_build_of_it(here: Here) -> None:
    with pytest.raises(NotFound, match="no engine for cuda that is built already") as caught:
        install(here, None, Backend.CUDA)
    assert str(caught.value.hint).startswith("launcher engine build --backend cuda, or ")


def test_one_that_leaves_the_gpu_idle_says_what_makes_one_that_does_not(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_install, "read_host_facts", lambda _: dataclasses.replace(FACTS, has_amd=True))
    loud = "THE GPU IS NOT USED by it: launcher engine build makes one that uses it"
    assert install(here, None).sentences[-1] == loud
    assert loud not in install(here, None, Backend.CPU).sentences  # as it was asked for


@pytest.mark.parametrize("source", ["b", "newest", "/no/such.tar.gz", "ftp://host/x.tar.gz", ""])
def test_a_source_that_is_none(here: Here, source: str) -> None:
    with pytest.raises(UsageError, match="names no engine") as caught:
        install(here, source)
    assert "b12345" in str(caught.value.hint)


def test_an_archive_and_an_address(here: Here, releases: Releases, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(engine_archive())
    first = install(here, str(path)).engine
    assert first.build is not None
    assert first.build.origin is not None
    assert first.build.origin.kind == "archive"
    url = f"{releases.storage_url}/download/{TAG}/{NAME}"
    with pytest.raises(UsageError, match="without the sha256"):
        install(here, url)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert install(here, f"{url}?token=secret#sha256={sha256}").engine.folder == first.folder
