"""NVIDIA's packages become one toolkit; here with wheels of the same shape that were made small."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from launcher.engine.compile import cuda_packages
from launcher.engine.compile.cuda_packages import (
    LIBRARIES,
    PACKAGES,
    copy_libraries,
    fetch_toolkit,
    settings_of,
    toolkit_folder,
)
from launcher.engine.compile.toolchain import find_toolchain
from launcher.machine.machine import Backend
from launcher.progress import OnProgress, Step
from launcher.system.packages import Package, PackageKind

FILES = {
    "nvidia-cuda-nvcc": ("bin/nvcc", "include/nvcc.h"),
    "nvidia-cuda-crt": ("include/crt/a.h",),
    "nvidia-cuda-cccl": ("include/cccl/cuda/std/__a/__b/__c/deep.h",),
    "nvidia-cuda-runtime": ("lib/libcudart.so.13", "include/cuda_runtime.h"),
    "nvidia-nvvm": ("nvvm/bin/cicc",),
    "nvidia-cublas": ("lib/libcublas.so.13", "lib/libcublasLt.so.13"),
}
NVCC = "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that were fetched, by name."""
    names: list[str] = []

    def fetch(package: Package, folder: Path, *, on_progress: OnProgress) -> Path:
        on_progress(Step(phase="download", done=0, total=None, unit="bytes", text=package.name))
        names.append(package.name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / package.file_name
        with zipfile.ZipFile(path, "w") as wheel:
            for name in FILES[package.name]:
                info = zipfile.ZipInfo(f"nvidia/cu13/{name}")
                info.external_attr = 0o100744 << 16 if "bin/" in name else 0o100644 << 16
                wheel.writestr(info, NVCC if name == "bin/nvcc" else name)
            wheel.writestr(f"{package.name}.dist-info/METADATA", "")
            wheel.writestr(f"{package.name}.dist-info/licenses/License.txt", "NVIDIA's")
        return path

    monkeypatch.setattr(cuda_packages, "fetch_package", fetch)
    return names


def test_one_toolkit_is_made_of_them_once(tmp_path: Path, fetched: list[str]) -> None:
    engines, packages = tmp_path / "engines", tmp_path / "packages"
    toolkit = fetch_toolkit(engines, packages)
    assert toolkit == toolkit_folder(engines)
    assert sorted(fetched) == sorted(FILES)
    assert os.access(toolkit / "bin/nvcc", os.X_OK)
    assert (toolkit / "include/cccl/cuda/std/__a/__b/__c/deep.h").is_file()
    assert (toolkit / "lib64/libcudart.so").read_text() == "lib/libcudart.so.13"  # as cmake looks for it
    assert fetch_toolkit(engines, packages) == toolkit
    assert len(fetched) == len(FILES)
    assert [path for path in packages.iterdir() if path.suffix == ".whl"] == []
    output = tmp_path / "bin"
    output.mkdir()
    copy_libraries(toolkit, output)
    assert sorted(path.name for path in output.iterdir()) == ["CUDA_LICENSE.txt", *sorted(LIBRARIES)]
    assert (output / "CUDA_LICENSE.txt").read_text() == "NVIDIA's"


def test_a_toolkit_that_was_made_half_is_made_anew(tmp_path: Path, fetched: list[str]) -> None:
    engines = tmp_path / "engines"
    half = toolkit_folder(engines).with_suffix(".part")
    (half / "whole" / "bin").mkdir(parents=True)
    assert (fetch_toolkit(engines, tmp_path / "packages") / "bin/nvcc").is_file()
    assert not half.exists()
    assert fetched


@pytest.mark.usefixtures("fetched")
def test_a_build_is_told_where_it_is(tmp_path: Path) -> None:
    toolkit = fetch_toolkit(tmp_path / "engines", tmp_path / "packages")
    tools = find_toolchain(Backend.CUDA, packaged=toolkit)
    assert f"-DCMAKE_CUDA_COMPILER={toolkit / 'bin/nvcc'}" in tools.settings
    assert f"-DCMAKE_EXE_LINKER_FLAGS=-Wl,-rpath-link,{toolkit / 'lib'}" in tools.settings
    assert tools.toolkit is not None
    assert tools.toolkit.startswith("CUDA 13.0 out of packages")
    (toolkit / "lib/stubs").mkdir(exist_ok=True)
    (toolkit / "lib/stubs/libcuda.so").unlink(missing_ok=True)
    assert settings_of(toolkit) == ("-DGGML_CUDA_NO_VMM=ON",)  # no driver, nothing to link with
    (toolkit / "lib/stubs/libcuda.so").write_text("")
    assert settings_of(toolkit) == ()


def test_every_package_is_pinned() -> None:
    assert {package.name for package in PACKAGES} == set(FILES)
    for package in PACKAGES:
        assert package.kind is PackageKind.WHEEL
        assert len(package.sha256) == 64
        assert package.file_name.startswith(f"{package.name.replace('-', '_')}-{package.version}-")
