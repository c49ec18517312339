"""Choose the llama-server to use: `--engine`, then the configured one, then one built here, then PATH."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from launcher.engine.default import read_default
from launcher.engine.host_cpu import HostCpu, host_cpu
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import Backend
from launcher.plan.modes import Dialect
from launcher.system.json_object import parse_json
from launcher.system.settings import expand_home
from launcher.system.small_files import open_regular, read_small_text

SERVER = "llama-server"
RPC_SERVER = "ggml-rpc-server"
RECORD = "engine.json"
RECORD_FORMAT = 1

# e_machine of the ELF header (System V ABI): EM_X86_64, EM_AARCH64, EM_386, EM_RISCV.
_ELF_MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183, "i686": 3, "riscv64": 243}
_GGML_LIBRARY = re.compile(r"libggml-([a-z]+)[-.]")
GET_HINT = "launcher engine install, or name a llama-server you have: --engine PATH"


# the kind of origin of an engine that was built from a tree of the user's
SOURCE_TREE = "source"


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

    kind: str  # release, wheel, archive, index, SOURCE_TREE
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
    dialect: Dialect = Dialect.LLAMA_CPP  # of its flags; ik_llama.cpp only where it was built from its tree


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
            by_name = None if path.exists() else engine_named(engines_dir, str(path))
            return replace(by_name, source=source) if by_name else _named(expand_home(path), source)
    cpu = host_cpu()
    engines = read_engines(engines_dir)
    built = [engine for engine in engines if engine.build and _runs_on(engine.build, cpu)]
    chosen = read_default(engines_dir)
    for engine in built:
        if chosen is not None and engine.folder.name == chosen.name:
            return engine
    if built:
        n_backends = len({engine.build.backend for engine in built if engine.build})
        wanted = backend() if backend is not None and n_backends > 1 else None  # a look at the hardware
        return max(built, key=lambda engine: _preference(engine, wanted))
    on_path = shutil.which(SERVER)
    if on_path is not None:
        return Engine(path=Path(on_path), folder=Path(on_path).resolve().parent, source=EngineSource.PATH)
    if engines:
        raise NotFound(f"no engine in {engines_dir} was built for this kind of processor", hint=GET_HINT)
    raise NotFound(f"no engine: none built in {engines_dir}, no {SERVER} on PATH", hint=GET_HINT)


def engine_named(engines_dir: Path, name: str) -> Engine | None:
    """Return the engine of this name, or the only one whose name begins so; None if there is none.

    Raises UsageError if there are several.
    """
    if not name or "/" in name:
        return None
    near = [engine for engine in read_engines(engines_dir) if engine.folder.name.startswith(name)]
    exact = [engine for engine in near if engine.folder.name == name]
    if len(exact or near) > 1:
        names = ", ".join(sorted(engine.folder.name for engine in near))
        raise UsageError(f"several engines begin with {name}: {names}", hint="launcher engine list")
    return next(iter(exact or near), None)


def read_engines(engines_dir: Path) -> tuple[Engine, ...]:
    """Return the engines built or installed here, newest first."""
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
    """Return the engine built into `folder`, None if there is no whole one, or a stranger's."""
    try:
        # where others may write, anybody could put a program that calls itself the newest
        if folder.lstat().st_uid not in {os.geteuid(), 0, folder.parent.stat().st_uid}:
            return None
        record = parse_record(read_small_text(folder / RECORD))
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / SERVER
    if record is None or not os.access(path, os.X_OK):
        return None
    source = EngineSource.BUILT if record.origin is None else EngineSource.INSTALLED
    return Engine(path=path, folder=folder, source=source, build=record)


def backends_in(folder: Path) -> tuple[str, ...]:
    """List the backends of an engine by the ggml libraries in its folder; none for one linked statically."""
    files = folder.glob("libggml-*")
    names = {name[1] for file in files if (name := _GGML_LIBRARY.match(file.name))}
    return tuple(sorted(names - {"base"}))


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
            dialect=Dialect(raw.get("dialect", Dialect.LLAMA_CPP)),
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


def _named(path: Path, source: EngineSource) -> Engine:
    if path.is_dir():
        path /= SERVER
    if not path.exists():
        undo = "launcher config set engine, or unset LAUNCHER_ENGINE"
        hint = undo if source is EngineSource.CONFIGURED else "launcher engine list"
        raise NotFound(f"{source}: {path} does not exist", hint=hint)
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
            f"{source}: {path} is for {name}, this machine is {platform.machine()}", hint=GET_HINT
        )


def _runs_on(build: BuildRecord, cpu: HostCpu) -> bool:
    # Built with `-march=native`, and home folders are shared between machines.
    return build.arch == cpu.arch and set(build.isa) <= set(cpu.flags)


def _preference(engine: Engine, backend: Backend | None) -> tuple[bool, bool, bool, bool, int]:
    build = engine.build
    if build is None:
        return (False, False, False, False, 0)
    # one that cannot use the machine's GPU is the last resort, whatever it is compiled for
    uses_gpu = backend in {None, Backend.CPU, build.backend} or build.backend is Backend.VULKAN
    pinned = build.origin is None and build.version == LLAMA_CPP.version
    # what a fork cannot do is not known: it is taken by its name, or where nothing else is
    from_tree = build.origin is not None and build.origin.kind == SOURCE_TREE
    return (uses_gpu, not from_tree, pinned, build.backend is backend, build.built_at)
