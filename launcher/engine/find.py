"""Choose the llama-server to use: `--engine`, then the configured one, then one built here, then PATH."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from launcher.engine.environment import engine_env
from launcher.engine.host_cpu import HostCpu, host_cpu
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.machine.machine import Backend
from launcher.system.json_object import parse_json
from launcher.system.settings import expand_home
from launcher.system.small_files import open_regular, read_small_text

SERVER = "llama-server"
RECORD = "engine.json"
RECORD_FORMAT = 1
# For `--version`, `--help`, `--list-devices`: 20 ms on CPU, seconds if a GPU driver has to wake up first.
ASK_TIMEOUT_S = 60.0

# e_machine of the ELF header (System V ABI): EM_X86_64, EM_AARCH64, EM_386, EM_RISCV.
_ELF_MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183, "i686": 3, "riscv64": 243}
# of ld.so: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by …)
_VERSION_NOT_FOUND = re.compile(r"version `([A-Za-z0-9_.]{1,40})' not found")
_BUILD_HINT = "launcher engine build, or name a llama-server you have: --engine PATH"


class EngineSource(StrEnum):
    """Where an engine was found."""

    OPTION = "--engine"
    CONFIGURED = "LAUNCHER_ENGINE or config.toml"
    BUILT = "built here"
    INSTALLED = "installed"
    PATH = "PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who built an engine that was not built here."""

    kind: str  # release, wheel, archive
    made_by: str
    file: str  # the archive's name, or its address without secrets
    sha256: str  # the archive's


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """The contents of engine.json, written when an engine is built or installed."""

    key: str
    version: str
    commit: str
    backend: Backend
    arguments: tuple[str, ...]
    compiler: str
    toolkit: str | None
    arch: str
    isa: tuple[str, ...]
    patched: bool
    built_at: int  # seconds since the epoch
    sha256: str
    origin: Origin | None = None  # None: built here


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A llama-server and where it was found."""

    path: Path
    folder: Path  # of its libraries and sister programs, symbolic links followed
    source: EngineSource
    build: BuildRecord | None = None

    @property
    def is_built_here(self) -> bool:
        # of the sources that this launcher was made for
        return self.build is not None and self.build.origin is None


def find_engine(
    explicit: Path | None,
    configured: Path | None,
    engines_dir: Path,
    *,
    backend: Callable[[], Backend] | None = None,
) -> Engine:
    """Return the engine to use; of those built here, the pinned version for `backend` comes first.

    Runs nothing. Raises NotFound without an engine, UsageError if a named one cannot be used.
    """
    for path, source in ((explicit, EngineSource.OPTION), (configured, EngineSource.CONFIGURED)):
        if path is not None:
            return _named(expand_home(path), source)
    cpu = host_cpu()
    built = [engine for engine in read_engines(engines_dir) if engine.build and _runs_on(engine.build, cpu)]
    if built:
        n_backends = len({engine.build.backend for engine in built if engine.build})
        wanted = backend() if backend is not None and n_backends > 1 else None  # a look at the hardware
        return max(built, key=lambda engine: _preference(engine, wanted))
    on_path = shutil.which(SERVER)
    if on_path is not None:
        return Engine(path=Path(on_path), folder=Path(on_path).resolve().parent, source=EngineSource.PATH)
    if read_engines(engines_dir):
        raise NotFound(f"no engine in {engines_dir} was built for this kind of processor", hint=_BUILD_HINT)
    raise NotFound(f"no engine: none built in {engines_dir}, no {SERVER} on PATH", hint=_BUILD_HINT)


def read_engines(engines_dir: Path) -> tuple[Engine, ...]:
    """Return the engines built here, newest first."""
    try:
        folders = [entry for entry in engines_dir.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return ()
    # A folder without a readable record is no engine: a build that was interrupted, or something else.
    engines = [engine for folder in folders if (engine := read_engine(folder)) is not None]
    return tuple(
        sorted(engines, key=lambda engine: engine.build.built_at if engine.build else 0, reverse=True)
    )


def read_engine(folder: Path) -> Engine | None:
    """Return the engine built into `folder`, None if there is no whole one."""
    try:
        record = parse_record(read_small_text(folder / RECORD))
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / SERVER
    if record is None or not os.access(path, os.X_OK):
        return None
    source = EngineSource.BUILT if record.origin is None else EngineSource.INSTALLED
    return Engine(path=path, folder=folder, source=source, build=record)


def parse_record(text: str) -> BuildRecord | None:
    """Parse engine.json; None for anything else."""
    try:
        raw: dict[str, Any] = parse_json(text)
        if raw["format"] != RECORD_FORMAT:
            return None
        return BuildRecord(
            key=str(raw["key"]),
            version=str(raw["version"]),
            commit=str(raw["commit"]),
            backend=Backend(raw["backend"]),
            arguments=tuple(map(str, raw["arguments"])),
            compiler=str(raw["compiler"]),
            toolkit=None if raw["toolkit"] is None else str(raw["toolkit"]),
            arch=str(raw["arch"]),
            isa=tuple(map(str, raw["isa"])),
            patched=bool(raw["patched"]),
            built_at=int(raw["built_at"]),
            sha256=str(raw["sha256"]),
            origin=_origin_of(raw.get("origin")),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _origin_of(raw: Any) -> Origin | None:
    if raw is None:
        return None
    return Origin(
        kind=str(raw["kind"]), made_by=str(raw["made_by"]), file=str(raw["file"]), sha256=str(raw["sha256"])
    )


def ask_engine(path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run llama-server with `--version` or the like and return what it prints (stdout, then stderr).

    Raises EngineFailed or UsageError if this is not a llama-server that runs here.
    """
    clean, _ = engine_env(os.environ if environment is None else environment)
    try:
        process = subprocess.Popen(
            [str(path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=clean,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"{path} cannot be started: {error.strerror or error}", hint=_BUILD_HINT) from error
    with process:
        try:
            output, errors = process.communicate(timeout=ASK_TIMEOUT_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a wrapper script's children too
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineFailed(
                    f"{path} {' '.join(arguments)} did not end within {ASK_TIMEOUT_S:.0f} s", hint=_BUILD_HINT
                ) from error
            raise
    if process.returncode != 0:
        raise _engine_failure(path, arguments, process.returncode, errors or output)
    return output + errors


def _engine_failure(path: Path, arguments: tuple[str, ...], status: int, output: str) -> EngineFailed:
    """Explain why an engine that started ended badly."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    library = next((line for line in lines if "error while loading shared libraries" in line), None)
    library = library or next((line for line in lines if "Library not loaded" in line), None)
    if library is not None:
        missing = library.partition("libraries:")[2].strip() or library
        return EngineFailed(
            f"{path} misses a shared library: {missing}",
            hint=f"install it or put it beside {path}, or launcher engine build",
        )
    wanted = next((match for line in lines if (match := _VERSION_NOT_FOUND.search(line))), None)
    if wanted is not None:
        return EngineFailed(
            f"{path} was built for a newer system: it needs {wanted[1]}, which is not here",
            hint="launcher engine install takes one that runs here, or launcher engine build",
        )
    if status == -signal.SIGILL:
        return EngineFailed(
            f"{path} was built for another processor (illegal instruction)", hint="launcher engine build"
        )
    how = f"signal {-status}" if status < 0 else f"status {status}"
    last_line = f": {lines[-1]}" if lines else ""
    return EngineFailed(f"{path} {' '.join(arguments)} ended with {how}{last_line}", hint=_BUILD_HINT)


def _named(path: Path, source: EngineSource) -> Engine:
    if path.is_dir():
        path /= SERVER
    if not path.exists():
        raise NotFound(f"{source}: {path} does not exist", hint="launcher engine list")
    if not path.is_file():
        raise UsageError(f"{source}: {path} is not a file", hint="name the llama-server program itself")
    if not os.access(path, os.X_OK):
        raise UsageError(f"{source}: {path} is not executable", hint=f"chmod +x {path}")
    path = path.absolute()
    _check_architecture(path, source)
    folder = path.resolve().parent
    built = read_engine(folder)
    return Engine(path=path, folder=folder, source=source, build=built.build if built else None)


def _check_architecture(path: Path, source: EngineSource) -> None:
    """Raise UsageError if the ELF program is for another processor."""
    with open_regular(path) as file:
        header = file.read(20)
    expected = _ELF_MACHINES.get(platform.machine().lower())
    # Wrapper scripts pass.
    if header[:4] != b"\x7fELF" or len(header) < 20 or expected is None:
        return
    machine = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    if machine != expected:
        name = next((name for name, number in _ELF_MACHINES.items() if number == machine), f"type {machine}")
        raise UsageError(
            f"{source}: {path} is for {name}, this machine is {platform.machine()}", hint=_BUILD_HINT
        )


def _runs_on(build: BuildRecord, cpu: HostCpu) -> bool:
    # Built with `-march=native`, and home folders are shared between machines.
    return build.arch == cpu.arch and set(build.isa) <= set(cpu.flags)


def _preference(engine: Engine, backend: Backend | None) -> tuple[bool, bool, int]:
    build = engine.build
    if build is None:
        return (False, False, 0)
    return (build.version == LLAMA_CPP.version, build.backend is backend, build.built_at)
