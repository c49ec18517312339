"""What there is to work with: the engine, and the machine it runs on or is planned for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.adhoc import adhoc_machine
from launcher.engine.build import BuildRequest, build_engine
from launcher.engine.capabilities import capabilities
from launcher.engine.find import Engine, ask_engine, find_engine
from launcher.engine.flags import Capabilities
from launcher.engine.recipe import backend_for, cuda_architectures, jobs_for
from launcher.engine.toolchain import has_hip
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.hub.endpoint import endpoint_in_use
from launcher.machine import Backend, Device, Machine
from launcher.machine_file import format_machine, parse_machine
from launcher.probe.engine_devices import parse_device_list
from launcher.probe.machine import probe
from launcher.progress import OnProgress
from launcher.replacing import write_atomically
from launcher.settings import Settings, expand, profiles_dir

_BACKEND_LIBRARY = re.compile(r"libggml-([a-z]+)(?:-|\.)")

Confirm = Callable[[str], bool]
"""Asks the user one question; True goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineChoice:
    """Which machine to plan for: a saved one by name or file, one made up of GPUs and RAM, else this one."""

    name: str | None = None
    gpus: tuple[str, ...] = ()
    ram_bytes: int | None = None


def find(explicit: Path | None, settings: Settings) -> Engine:
    """The engine in use; among those built here, the one for this machine's own backend. Raises NotFound,
    UsageError for a named one that cannot be used."""
    wanted = (
        None
        if explicit or settings.engine
        else backend_for(probe(settings.models_dir, None), has_hip=has_hip())
    )
    return find_engine(explicit, settings.engine, settings.engines_dir, backend=wanted)


def engine_or_none(explicit: Path | None, settings: Settings) -> Engine | None:
    """The engine there is; None where there is none. Raises UsageError for a named one that cannot be used."""
    try:
        return find(explicit, settings)
    except NotFound:
        if explicit is not None or settings.engine is not None:
            raise
        return None


def engine_or_agreement(explicit: Path | None, settings: Settings, confirm: Confirm) -> Engine | None:
    """The engine there is; None where one is to be built for this machine now, which was confirmed. Raises NotFound
    where it was not, and as `find` does for a named one."""
    try:
        return find(explicit, settings)
    except NotFound:
        named = explicit is not None or settings.engine is not None
        if named or not confirm("No llama-server is here. Build llama.cpp now? It takes minutes, once."):
            raise
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDescription:
    """An engine with what it says about itself. `devices` are those it sees now, CPU left out; `backends` the
    backend libraries beside it, by ggml's names (`cpu`, `vulkan`, `rpc`)."""

    engine: Engine
    capabilities: Capabilities
    backends: tuple[str, ...]
    devices: tuple[Device, ...]


def describe_engine(explicit: Path | None, settings: Settings) -> EngineDescription:
    """The engine in use, asked. Raises NotFound without one."""
    engine = find(explicit, settings)
    return EngineDescription(
        engine=engine,
        capabilities=capabilities(engine, settings.cache_dir),
        backends=backends_beside(engine),
        devices=parse_device_list(ask_engine(engine.path, "--list-devices")),
    )


def build(backend: Backend | None, jobs: int | None, settings: Settings, on_progress: OnProgress) -> Engine:
    """Build the pinned engine for this machine, or return the one built before."""
    machine = probe(settings.models_dir, None)
    return build_engine(
        BuildRequest(
            backend=backend or backend_for(machine, has_hip=has_hip()),
            engines_dir=settings.engines_dir,
            packages_dir=settings.cache_dir / "packages",
            jobs=jobs or jobs_for(machine),
            architectures=cuda_architectures(machine),
        ),
        on_progress=on_progress,
    )


def machine_for(choice: MachineChoice, engine: Engine | None, settings: Settings) -> Machine:
    """The machine to plan for. Raises UsageError for a choice that contradicts itself, NotFound."""
    if choice.name is not None and (choice.gpus or choice.ram_bytes is not None):
        raise UsageError(
            f"--machine {choice.name} and --gpu or --ram name two machines", hint="leave one of them out"
        )
    if choice.name is not None:
        return _saved(choice.name, settings)
    if choice.gpus or choice.ram_bytes is not None:
        if choice.ram_bytes is None:
            raise UsageError("--gpu needs --ram: the host's memory is part of the plan", hint="--ram 64G")
        return adhoc_machine(choice.gpus, choice.ram_bytes)
    return this_machine(engine)


def this_machine(engine: Engine | None) -> Machine:
    """This machine; with an engine, its devices are the engine's own, by llama.cpp's names and order."""
    listed = None
    if engine is not None:
        try:
            listed = parse_device_list(ask_engine(engine.path, "--list-devices"))
        except EngineFailed:
            listed = None  # an engine that cannot list is diagnosed when it is started
    return probe(endpoint_in_use().cache_dir, listed)


def save_machine(machine: Machine, path: Path) -> None:
    """Write the machine as a file that `--machine` takes. Raises UsageError when it cannot be written."""
    try:
        write_atomically(path, format_machine(machine).encode())
        path.chmod(0o644)  # no secret: it is made to be handed on
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def machine_names(settings: Settings) -> tuple[str, ...]:
    """The machines that `--machine` knows by name."""
    return tuple(sorted({file.stem for folder in _folders(settings) for file in folder.glob("*.toml")}))


def _saved(name: str, settings: Settings) -> Machine:
    file = next(
        (path for folder in _folders(settings) if (path := folder / f"{name}.toml").is_file()),
        expand(Path(name)),
    )
    try:
        return parse_machine(file.read_text(encoding="utf-8"), name)
    except FileNotFoundError:
        raise NotFound(
            f"no machine is called {name!r}, and there is no such file",
            hint=f"--machine with one of {', '.join(machine_names(settings))}, or a file of launcher probe --save",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"machine file {file} cannot be read: {error}", hint=f"look at {file}") from error


def backends_beside(engine: Engine) -> tuple[str, ...]:
    """The backends an engine has, by the ggml libraries in its folder; empty for one linked statically."""
    found = {
        name[1] for file in engine.folder.glob("libggml-*") if (name := _BACKEND_LIBRARY.match(file.name))
    }
    return tuple(sorted(found - {"base"}))


def _folders(settings: Settings) -> tuple[Path, ...]:
    return (settings.own_profiles_dir / "machines", profiles_dir() / "machines")
