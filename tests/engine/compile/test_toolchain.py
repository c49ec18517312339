"""What is found, what is said to be missing, and the command that helps, with a PATH made for the test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from launcher.engine.compile import toolchain, toolkits
from launcher.engine.compile.toolchain import find_toolchain, install_hint, parse_vulkan_version
from launcher.errors import EngineFailed
from launcher.machine.machine import Backend


def tool(folder: Path, name: str, says: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH; no compiler, no toolkit, no package manager until the test adds one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "VULKAN_SDK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def with_compiler(folder: Path) -> None:
    for name in ("cc", "c++"):
        tool(folder, name, f"{name} (Test 1) 12.2.0")


def test_this_machine_can_compile() -> None:
    tools = find_toolchain(Backend.CPU)
    assert all(os.access(path, os.X_OK) for path in (tools.c, tools.cxx, tools.cmake, tools.ninja))
    assert any(character.isdigit() for character in tools.compiler)


def test_cmake_and_ninja_are_the_packages_beside_python(bin_folder: Path) -> None:
    with_compiler(bin_folder)
    tools = find_toolchain(Backend.CPU)
    assert (tools.cmake.name, tools.ninja.name, tools.ccache) == ("cmake", "ninja", None)
    assert Path(sys.prefix) in tools.cmake.parents
    assert tools.compiler == "c++ (Test 1) 12.2.0"


def test_the_compiler_that_is_named_wins(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(bin_folder)
    tool(bin_folder, "my-cc")
    tool(bin_folder, "my-c++", "mine 1")
    monkeypatch.setenv("CC", "my-cc")
    monkeypatch.setenv("CXX", "my-c++")
    assert find_toolchain(Backend.CPU).compiler == "mine 1"


def test_half_a_compiler_is_passed_over(bin_folder: Path) -> None:
    tool(bin_folder, "cc")
    for name in ("clang", "clang++"):
        tool(bin_folder, name, "clang 17")
    assert find_toolchain(Backend.CPU).compiler == "clang 17"


@pytest.mark.skipif(sys.platform == "darwin", reason="there the hint is xcode-select")
@pytest.mark.parametrize(
    ("manager", "hint"),
    [
        ("apt-get", "apt-get install build-essential"),
        ("dnf", "dnf install gcc gcc-c++"),
        ("pacman", "pacman -S base-devel"),
        ("apk", "apk add build-base"),
        (None, "install build-essential (as Debian calls it)"),
    ],
)
def test_no_compiler_names_this_systems_command(bin_folder: Path, manager: str | None, hint: str) -> None:
    if manager is not None:
        tool(bin_folder, manager)
    with pytest.raises(EngineFailed, match=r"no C\+\+ compiler was found") as caught:
        find_toolchain(Backend.CPU)
    assert hint in str(caught.value.hint)
    assert "--engine PATH" in str(caught.value.hint)
    sudo = "" if os.geteuid() == 0 or manager is None else "sudo "
    assert install_hint("compiler") == f"{sudo}{hint}"


def test_cuda_is_found_and_told(bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(bin_folder)
    toolkit = tmp_path / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    nvcc = tool(toolkit, "nvcc", "Cuda compilation tools, release 13.0, V13.0.88")
    monkeypatch.setenv("CUDA_HOME", str(toolkit.parent))
    monkeypatch.setattr(toolchain, "nvidia_driver", lambda: tmp_path / "libcuda.so.1")
    tools = find_toolchain(Backend.CUDA)
    assert tools.toolkit == "CUDA 13.0"
    # programs that are linked with libggml-cuda.so find what that needs in turn, and so does the loader
    linked = f"LINKER_FLAGS=-Wl,-rpath,{toolkit.parent / 'lib64'}"
    flags = (f"-DCMAKE_EXE_{linked}", f"-DCMAKE_SHARED_{linked}")
    assert tools.settings == (f"-DCMAKE_CUDA_COMPILER={nvcc}", *flags)
    # linked with the toolkit's stub it would not even tell its version on a machine without a driver
    monkeypatch.setattr(toolchain, "nvidia_driver", lambda: None)
    assert find_toolchain(Backend.CUDA).settings[3:] == ("-DGGML_CUDA_NO_VMM=ON",)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (
            "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1",
            "/usr/lib/x86_64-linux-gnu",
        ),
        ("libcuda.so.1 (libc6,AArch64) => /usr/lib/tegra/libcuda.so.1", "/usr/lib/tegra"),
        ("libcuda.so.1 (libc6) => /usr/lib/i386-linux-gnu/libcuda.so.1", None),
        ("libcuda.so (libc6,x86-64) => /usr/lib/libcuda.so", None),
        ("", None),
    ],
)
def test_the_driver_is_the_one_of_this_kind_of_processor(
    monkeypatch: pytest.MonkeyPatch, line: str, path: str | None
) -> None:
    monkeypatch.setattr(toolkits, "output_of", lambda *_: f"3 libs found\n\t{line}\n")
    assert toolkits.nvidia_driver() == (None if path is None else Path(path) / "libcuda.so.1")


def test_no_cuda_toolkit(bin_folder: Path) -> None:
    with_compiler(bin_folder)
    with pytest.raises(EngineFailed, match="needs the CUDA toolkit") as caught:
        find_toolchain(Backend.CUDA, prefixes=())
    assert "--backend cpu" in str(caught.value.hint)


def test_no_rocm(bin_folder: Path) -> None:
    with_compiler(bin_folder)
    with pytest.raises(EngineFailed, match="needs ROCm, and hipcc was not found") as caught:
        find_toolchain(Backend.HIP, prefixes=())
    assert "--backend vulkan" in str(caught.value.hint)
    assert "--engine PATH" in str(caught.value.hint)


def test_hip_is_told_to_cmake_as_llama_cpp_asks(bin_folder: Path) -> None:
    with_compiler(bin_folder)
    tool(bin_folder, "hipcc", "HIP version: 6.2.41133-0")
    config = bin_folder / "hipconfig"
    config.write_text("#!/bin/sh\n[ $1 = -l ] && echo /r/llvm/bin || echo /r\n")
    config.chmod(0o755)
    tools = find_toolchain(Backend.HIP)
    assert tools.toolkit == "HIP 6.2.41133-0"
    assert dict(tools.environment) == {"HIPCXX": "/r/llvm/bin/clang", "HIP_PATH": "/r"}


def vulkan_sdk(root: Path) -> None:
    for name in ("include/vulkan/vulkan_core.h", "include/spirv/unified1/spirv.hpp"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("")
    (root / "include/vulkan/vulkan_core.h").write_text(HEADER)


HEADER = """\
#define VK_HEADER_VERSION 239
// Complete version of this file
#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 3, VK_HEADER_VERSION)
"""


def test_a_vulkan_sdk_is_found_with_its_version(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_compiler(bin_folder)
    tool(bin_folder, "glslc")
    vulkan_sdk(tmp_path / "sdk")
    monkeypatch.setenv("VULKAN_SDK", str(tmp_path / "sdk"))
    tools = find_toolchain(Backend.VULKAN)
    assert (tools.vulkan_headers, tools.toolkit) == ((1, 3, 239), "Vulkan headers 1.3.239")


def test_no_glslc(bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(bin_folder)
    vulkan_sdk(tmp_path / "sdk")
    monkeypatch.setenv("VULKAN_SDK", str(tmp_path / "sdk"))
    with pytest.raises(EngineFailed, match="building for Vulkan needs glslc, not found here"):
        find_toolchain(Backend.VULKAN, prefixes=())


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (HEADER, (1, 3, 239)),
        (HEADER.replace("239", "272").replace("1, 3", "1, 4"), (1, 4, 272)),
        (HEADER.replace("API_VERSION(0, 1, 3", "VERSION(1, 2").replace("239", "131"), (1, 2, 131)),
        ("#define VK_HEADER_VERSION 239\n", None),
        ("", None),
    ],
)
def test_vulkan_versions(header: str, version: tuple[int, int, int] | None) -> None:
    assert parse_vulkan_version(header) == version
