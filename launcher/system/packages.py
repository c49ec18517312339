"""Download pinned packages with pip, and install nothing."""

# For a source archive pip also runs its metadata hook, in an isolated environment that it fills from the
# same index (about 5 s).

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from launcher.errors import HashMismatch, LauncherError, TryAgain
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive
from launcher.system.run_program import run_lines
from launcher.units import MIB

# pip 24.1 brought `--progress-bar raw` (lines `Progress 1024 of 4096`); older ones are silent in a pipe
_RAW_PROGRESS = (24, 1)

_PROGRESS = re.compile(r"Progress (\d+)(?: of (\d+))?")
_URL = re.compile(r"\b(?:https?|file)://\S+")
_MISMATCH = re.compile(r"DO NOT MATCH THE HASHES", re.IGNORECASE)
_FULL = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b")


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


def fetch_package(package: Package, folder: Path, *, on_progress: OnProgress = silent) -> Path:
    """Return the package's file in `folder`, downloaded if need be, its sha256 checked.

    Raises TryAgain (network, index, full disk), HashMismatch, LauncherError (no pip here).
    """
    path = folder / package.file_name
    if _is_whole(path, package):
        return path
    waiting = Step(phase="download", done=0, total=None, unit="bytes", text="another process downloads it")
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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(package: Package, path: Path, on_progress: OnProgress, lock: int) -> None:
    # into a scratch folder, then renamed; the caller holds the lock
    scratch = path.parent / f".{package.file_name}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
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
    # one file of one exact version, without its dependencies, from the index that pip is configured with here
    if importlib.util.find_spec("pip") is None:
        raise LauncherError(
            f"{package.file_name} is downloaded with pip, and {sys.executable} has no pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    requirements = scratch / ".requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    kinds = (
        ("--no-binary", package.name)
        if package.kind is PackageKind.SDIST
        else ("--only-binary", package.name)
    )
    lines: list[str] = []
    on_progress(Step(phase="download", done=0, total=None, unit="bytes", text=package.file_name))
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--require-hashes", "--progress-bar", _progress_bar(), *kinds]
    command += ["--dest", str(scratch), "--requirement", str(requirements)]
    status = run_lines(
        command,
        on_line=_line_watcher(package, lines, on_progress),
        # pip unpacks archives in TMPDIR, which may be a small RAM disk; the cache has space or nothing has
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        keep_open=(lock,),
    )
    if status != 0:
        raise _failure(package, status, lines)


def _progress_bar() -> str:
    numbers = re.findall(r"\d+", importlib.metadata.version("pip"))
    return "raw" if tuple(map(int, numbers[:2])) >= _RAW_PROGRESS else "off"


def _line_watcher(package: Package, lines: list[str], on_progress: OnProgress) -> Callable[[str], None]:
    def watch(line: str) -> None:
        match = _PROGRESS.fullmatch(line.strip())
        if match is None:
            lines.append(line)
            return
        total = int(match[2]) if match[2] else None
        # The metadata hook's own small requirements report here as well; they are not the artefact.
        if total is None or total > MIB:
            on_progress(
                Step(phase="download", done=int(match[1]), total=total, unit="bytes", text=package.file_name)
            )

    return watch


def _failure(package: Package, status: int, lines: list[str]) -> LauncherError:
    text = "\n".join(lines)
    wanted = f"{package.name} {package.version}"
    if _MISMATCH.search(text):
        got = re.search(r"Got\s+([0-9a-f]{64})", text)
        return HashMismatch(_mismatch_message(package, got[1] if got else "another one"))
    if _FULL.search(text):
        return TryAgain(
            f"the disk is full: {package.file_name} did not fit",
            hint="free some space and run the same command again",
        )
    errors = [line for line in lines if line.lstrip().upper().startswith("ERROR")] or lines
    # addresses are left out: the index's may carry a password
    last = _URL.sub("the index", errors[-1].strip()).removeprefix("ERROR: ") if errors else f"status {status}"
    return TryAgain(
        f"{wanted} cannot be downloaded with pip: {last}",
        hint="check the network and pip's index (`pip config list`), then run the same command again",
    )


def _mismatch_message(package: Package, digest: str) -> str:
    return (
        f"{package.file_name} has sha256 {digest} and should have {package.sha256}: "
        "the index serves another file under this name"
    )
