"""NVIDIA's compiler and libraries from the package index, for machines without a CUDA toolkit."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from launcher.engine.compile.toolkits import nvidia_driver
from launcher.engine.sources.host import parse_version
from launcher.engine.sources.unpack import UnpackLimits, unpack_archive
from launcher.machine.machine import Backend, Machine
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive
from launcher.system.packages import Package, PackageKind, fetch_package
from launcher.units import MIB

VERSION = "13.0"
DRIVER = 580  # the oldest driver that runs what CUDA 13 makes
OLDEST_CARD = (7, 5)  # Turing: CUDA 13 makes no code for older ones (its release notes)
DOWNLOAD_BYTES = 502 * MIB
UNPACKED_BYTES = 840 * MIB
WITHOUT_DRIVER = ("-DGGML_CUDA_NO_VMM=ON",)  # else the engine needs libcuda.so.1 even for its --version
# beside the engine, which loads them from there: RUNPATH is $ORIGIN
LIBRARIES = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
LICENSE = "CUDA_LICENSE.txt"  # who passes these on has to pass it on as well

_MANYLINUX = "py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64"
_WHEELS = (
    ("nvcc", "13.0.88", _MANYLINUX, "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03"),
    ("crt", "13.0.88", _MANYLINUX, "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4"),
    ("cccl", "13.0.85", _MANYLINUX, "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649"),
    ("runtime", "13.0.96", _MANYLINUX, "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
)


def _wheel(name: str, version: str, tag: str, sha256: str) -> Package:
    file_name = f"{name.replace('-', '_')}-{version}-{tag}.whl"
    return Package(name=name, version=version, kind=PackageKind.WHEEL, file_name=file_name, sha256=sha256)


PACKAGES = (
    *(_wheel(f"nvidia-cuda-{name}", *rest) for name, *rest in _WHEELS),
    _wheel(
        "nvidia-nvvm",
        "13.0.88",
        "py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64",
        "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
    ),
    _wheel(
        "nvidia-cublas",
        "13.0.2.14",
        "py3-none-manylinux_2_27_x86_64",
        "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
    ),
)

_ROOT = Path("nvidia/cu13")  # where each wheel has its part
_LIMITS = UnpackLimits(depth=16)  # cccl's headers lie deep
# Names that cmake's FindCUDAToolkit and nvcc.profile look for, and packages leave out.
_LINKS = (
    ("lib64", "lib"),
    *((f"lib/{library.removesuffix('.13')}", library) for library in LIBRARIES),
)


def are_for_this_machine() -> bool:
    """Tell if these packages run here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def what_is_too_old(machine: Machine) -> str | None:
    """Return the compute capability or the driver of a card that runs nothing of this compiler's. PURE."""
    for device in machine.devices:
        if device.backend is Backend.CUDA:
            capability, driver = parse_version(device.compute_capability), parse_version(device.driver)
            if capability is not None and capability < OLDEST_CARD:
                return f"compute capability {device.compute_capability}"
            if driver is not None and driver[0] < DRIVER:
                return f"NVIDIA's driver {device.driver}"
    return None


def toolkit_folder(engines_dir: Path) -> Path:
    return engines_dir / f".toolkit-cuda-{VERSION}"


def fetch_toolkit(engines_dir: Path, packages_dir: Path, *, on_progress: OnProgress = silent) -> Path:
    """Return a folder with nvcc in `bin`, fetched and unpacked if need be; it appears whole.

    Raises what `fetch_package` and `unpack_archive` raise.
    """
    toolkit = toolkit_folder(engines_dir)
    with exclusive(engines_dir / ".locks" / toolkit.name):
        if not (toolkit / "bin" / "nvcc").exists():
            _make_toolkit(toolkit, packages_dir, on_progress)
    return toolkit


def _make_toolkit(toolkit: Path, packages_dir: Path, on_progress: OnProgress) -> None:
    archives = [fetch_package(package, packages_dir, on_progress=on_progress) for package in PACKAGES]
    scratch = toolkit.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    for archive in archives:
        on_progress(Step(phase="unpack", done=0, total=None, unit="s", job=archive.name))
        unpack_archive(archive, scratch / archive.name, _LIMITS)
        _merge(scratch / archive.name / _ROOT, scratch / "whole")
        for text in (scratch / archive.name).glob("*.dist-info/licenses/License.txt"):
            shutil.copyfile(text, scratch / "whole" / LICENSE)  # the same in every package
    whole = scratch / "whole"
    for name, to in _LINKS:
        (whole / name).symlink_to(to)
    _link_driver(whole)
    whole.rename(toolkit)
    shutil.rmtree(scratch, ignore_errors=True)
    for archive in archives:  # what is unpacked is not needed twice
        archive.unlink(missing_ok=True)


def settings_of(toolkit: Path) -> tuple[str, ...]:
    """Return what cmake has to be told: without a driver's library nothing links with it."""
    return () if (toolkit / "lib/stubs/libcuda.so").exists() else WITHOUT_DRIVER


def copy_libraries(toolkit: Path, output: Path) -> None:
    """Put the libraries and their licence beside the engine's own. Raises OSError."""
    for library in LIBRARIES:
        shutil.copy2(toolkit / "lib" / library, output / library)
    if (toolkit / LICENSE).exists():  # toolkits of before have none
        shutil.copyfile(toolkit / LICENSE, output / LICENSE)


def _merge(part: Path, whole: Path) -> None:
    for path in part.rglob("*"):
        if path.is_file():
            place = whole / path.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)


def _link_driver(toolkit: Path) -> None:
    # ggml-cuda calls the driver for memory that grows (GGML_CUDA_NO_VMM=OFF)
    driver = nvidia_driver()
    if driver is not None:
        stubs = toolkit / "lib" / "stubs"
        stubs.mkdir(exist_ok=True)
        (stubs / "libcuda.so").symlink_to(driver)
