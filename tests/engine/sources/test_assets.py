from __future__ import annotations

import pytest

from launcher.engine.sources.assets import parse_asset_name
from launcher.machine.machine import Backend


@pytest.mark.parametrize(
    ("name", "arch", "backend", "toolkit", "is_runtime"),
    [
        ("llama-b11026-bin-ubuntu-x64.tar.gz", "x64", Backend.CPU, None, False),
        ("llama-b11026-bin-ubuntu-arm64.tar.gz", "arm64", Backend.CPU, None, False),
        ("llama-b11026-bin-ubuntu-vulkan-x64.tar.gz", "x64", Backend.VULKAN, None, False),
        ("llama-b11026-bin-ubuntu-cuda-12.8-x64.tar.gz", "x64", Backend.CUDA, (12, 8), False),
        ("cudart-llama-b11026-bin-ubuntu-cuda-12.8-x64.tar.gz", "x64", Backend.CUDA, (12, 8), True),
        ("llama-b99999-bin-ubuntu-cuda-14.1-arm64.tar.gz", "arm64", Backend.CUDA, (14, 1), False),
        ("llama-b11026-bin-ubuntu-rocm-10.0-x64.tar.gz", "x64", Backend.HIP, (10, 0), False),
        ("llama-b11026-bin-ubuntu-sycl-fp16-x64.tar.gz", "x64", Backend.SYCL, None, False),
        # renamed: other words for the same
        ("llama.cpp-b11026-linux-x86_64-vulkan.tgz", "x64", Backend.VULKAN, None, False),
        ("llama-b11026-bin-linux-cpu-aarch64.zip", "arm64", Backend.CPU, None, False),
    ],
)
def test_known_names(
    name: str, arch: str, backend: Backend, toolkit: tuple[int, int] | None, is_runtime: bool
) -> None:
    asset = parse_asset_name(name)
    assert asset is not None
    assert (asset.system, asset.arch, asset.backend) == ("linux", arch, backend)
    assert (asset.toolkit, asset.is_runtime) == (toolkit, is_runtime)


def test_apples_processors_have_metal() -> None:
    arm, intel = (parse_asset_name(f"llama-b1-bin-macos-{arch}.tar.gz") for arch in ("arm64", "x64"))
    assert arm is not None
    assert intel is not None
    assert (arm.system, arm.backend, intel.backend) == ("darwin", Backend.METAL, Backend.CPU)


@pytest.mark.parametrize(
    "name",
    [
        "llama-b11026-bin-win-cuda-13.4-x64.zip",
        "llama-b11026-bin-ubuntu-openvino-2026.0-x64.tar.gz",
        "llama-b11026-bin-ubuntu-sycl-fp32-x64.tar.gz",  # fp16 is taken
        "llama-b11026-bin-ubuntu-x64-noavx.tar.gz",  # a word that may mean anything
        "llama-b11026-bin-ubuntu-x64-arm64.tar.gz",
        "llama-b11026-xcframework.zip",
        "nightly-tag.txt",
        "llama-bin-ubuntu-x64.tar.gz",
        "llama-b11026-bin-ubuntu-x64.tar.gz.sig",
        "x" * 300 + ".zip",
        "llama-b11026-bin-ubuntu-\u0445\u0436-x64.tar.gz",
    ],
)
def test_names_that_say_nothing_known(name: str) -> None:
    assert parse_asset_name(name) is None
