"""The engine: found, described, built when agreed to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.capabilities import read_capabilities
from launcher.engine.compile.build import build_engine
from launcher.engine.compile.job import BuildRequest
from launcher.engine.compile.recipe import backend_for, cuda_architectures, jobs_for
from launcher.engine.compile.toolchain import has_hip
from launcher.engine.find import Engine, ask_engine, find_engine
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import NotFound
from launcher.machine.machine import Backend, Device
from launcher.machine.probe.device_list import parse_device_list
from launcher.machine.probe.probe import probe_machine
from launcher.progress import OnProgress
from launcher.system.settings import Settings

_BACKEND_LIBRARY = re.compile(r"libggml-([a-z]+)(?:-|\.)")

Confirm = Callable[[str], bool]
"""Asks the user one question; True goes on."""


def find(explicit: Path | None, settings: Settings) -> Engine:
    """The engine in use; among those built here, the one for this machine's own backend. Raises NotFound,
    UsageError for a named one that cannot be used."""
    return find_engine(
        explicit,
        settings.engine,
        settings.engines_dir,
        backend=lambda: backend_for(probe_machine(settings.models_dir, None), has_hip=has_hip()),
    )


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
        capabilities=read_capabilities(engine, settings.cache_dir),
        backends=backends_beside(engine),
        devices=parse_device_list(ask_engine(engine.path, "--list-devices")),
    )


def build(backend: Backend | None, jobs: int | None, settings: Settings, on_progress: OnProgress) -> Engine:
    """Build the pinned engine for this machine, or return the one built before."""
    machine = probe_machine(settings.models_dir, None)
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


def backends_beside(engine: Engine) -> tuple[str, ...]:
    """The backends an engine has, by the ggml libraries in its folder; empty for one linked statically."""
    found = {
        name[1] for file in engine.folder.glob("libggml-*") if (name := _BACKEND_LIBRARY.match(file.name))
    }
    return tuple(sorted(found - {"base"}))
