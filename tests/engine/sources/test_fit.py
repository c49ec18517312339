from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.engine.sources.assets import parse_asset_name
from launcher.engine.sources.fit import HostFacts, NvidiaCard, rank, runtime_of
from launcher.machine.machine import Backend

NAMES = (
    "llama-b1-bin-ubuntu-x64.tar.gz",
    "llama-b1-bin-ubuntu-arm64.tar.gz",
    "llama-b1-bin-ubuntu-vulkan-x64.tar.gz",
    "llama-b1-bin-ubuntu-cuda-12.8-x64.tar.gz",
    "cudart-llama-b1-bin-ubuntu-cuda-12.8-x64.tar.gz",
    "llama-b1-bin-ubuntu-cuda-13.3-x64.tar.gz",
    "llama-b1-bin-ubuntu-cuda-13.4-x64.tar.gz",
    "cudart-llama-b1-bin-ubuntu-cuda-13.4-x64.tar.gz",
    "llama-b1-bin-ubuntu-cuda-13.4-arm64.tar.gz",
    "llama-b1-bin-ubuntu-rocm-10.0-x64.tar.gz",
    "llama-b1-bin-macos-arm64.tar.gz",
)
ASSETS = tuple(asset for name in NAMES if (asset := parse_asset_name(name)) is not None)
PLAIN = HostFacts(system="linux", arch="x64", glibc=(2, 39), libstdcxx=33, has_vulkan=True)
ADA = NvidiaCard(driver=(580, 65), capability=(8, 9))
NVIDIA = replace(PLAIN, nvidia=(ADA,))


def best(facts: HostFacts) -> str:
    return rank(ASSETS, facts).fitting[0].title


def reasons(facts: HostFacts) -> list[str]:
    return [passed.reason for passed in rank(ASSETS, facts).passed_over]


def test_without_a_gpu_the_processors_archive_and_nothing_was_better() -> None:
    assert (best(PLAIN), reasons(PLAIN)) == ("CPU", [])


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ([ADA], "CUDA 13.4"),
        ([NvidiaCard(driver=(550, 54), capability=(8, 9))], "CUDA 12.8"),
        ([NvidiaCard(driver=(580, 65), capability=(6, 1))], "CUDA 12.8"),  # Pascal
        ([ADA, NvidiaCard(driver=(580, 65), capability=(7, 0))], "CUDA 12.8"),  # one of the two is Volta
        ([NvidiaCard(driver=(580, 65), capability=(12, 0))], "CUDA 13.4"),
        ([NvidiaCard(driver=(470, 1), capability=(8, 6))], "Vulkan"),
        ([NvidiaCard(driver=None, capability=None)], "CUDA 13.4"),  # unknown: the first run tells
    ],
)
def test_nvidia_by_driver_and_capability(cards: list[NvidiaCard], expected: str) -> None:
    assert best(replace(PLAIN, nvidia=tuple(cards))) == expected


def test_what_is_passed_over_says_what_it_needs_and_what_is_here() -> None:
    old = replace(NVIDIA, glibc=(2, 36), libstdcxx=30)
    assert best(old) == "Vulkan"
    assert reasons(old)[0] == "CUDA 13.4 needs glibc 2.39, here is 2.36"
    assert len(reasons(old)) == 3
    newer_c = replace(NVIDIA, libstdcxx=32)
    assert "CUDA 13.4 needs the libstdc++ of GCC 14 (GLIBCXX_3.4.33), here is GLIBCXX_3.4.32" in reasons(
        newer_c
    )
    driver = replace(PLAIN, nvidia=(NvidiaCard(driver=(550, 54), capability=(8, 9)),))
    assert reasons(driver)[0] == "CUDA 13.4 needs NVIDIA's driver 580, here is 550.54"


def test_blackwell_is_not_given_a_compiler_that_does_not_know_it() -> None:
    asset = parse_asset_name("llama-b1-bin-ubuntu-cuda-12.4-x64.tar.gz")
    assert asset is not None
    card = NvidiaCard(driver=(575, 0), capability=(12, 0))
    ranking = rank((asset,), replace(PLAIN, nvidia=(card,)))
    assert ranking.fitting == ()
    assert "no code for compute capability 12.0" in ranking.passed_over[0].reason


def test_amd_takes_rocm_where_that_very_version_is_installed_and_vulkan_else() -> None:
    amd = replace(PLAIN, has_amd=True)
    assert best(amd) == "Vulkan"
    assert best(replace(amd, rocm=(10, 2))) == "ROCm 10.0"
    assert best(replace(amd, rocm=(7, 2))) == "Vulkan"
    assert reasons(replace(amd, rocm=(7, 2))) == ["ROCm 10.0 needs ROCm 10.0 installed, here is 7.2"]


def test_a_gpu_without_a_way_to_use_it_leaves_the_processor_and_says_why() -> None:
    bare = replace(PLAIN, has_amd=True, has_vulkan=False)
    assert best(bare) == "CPU"
    assert "libvulkan.so.1" in reasons(bare)[0]


def test_another_c_library_fits_nothing() -> None:
    ranking = rank(ASSETS, replace(PLAIN, glibc=None))
    assert ranking.fitting == ()
    assert "another C library" in ranking.passed_over[0].reason


def test_other_processors_get_only_their_own() -> None:
    arm = replace(PLAIN, arch="arm64")
    assert rank(ASSETS, arm).fitting[0].file == "llama-b1-bin-ubuntu-arm64.tar.gz"
    assert rank(ASSETS, replace(arm, nvidia=(ADA,))).fitting[0].title == "CUDA 13.4"
    assert rank(ASSETS, replace(arm, glibc=(2, 36))).fitting == ()
    assert rank(ASSETS, replace(PLAIN, arch="riscv64")).fitting == ()
    mac = HostFacts(system="darwin", arch="arm64", glibc=None, libstdcxx=None)
    assert rank(ASSETS, mac).fitting[0].backend is Backend.METAL


def test_cudas_own_libraries_go_with_the_same_toolkit() -> None:
    chosen = rank(ASSETS, NVIDIA).fitting[0]
    runtime = runtime_of(chosen, ASSETS)
    assert runtime is not None
    assert runtime.file == "cudart-llama-b1-bin-ubuntu-cuda-13.4-x64.tar.gz"


def test_a_backend_that_is_asked_for_is_the_only_one() -> None:
    assert [asset.title for asset in rank(ASSETS, NVIDIA, wanted=Backend.CPU).fitting] == ["CPU"]
    assert rank(ASSETS, PLAIN, wanted=Backend.CUDA).fitting == ()
