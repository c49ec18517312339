"""The engine: found, and described."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.probe import Look, look_once
from launcher.engine.capabilities import read_capabilities
from launcher.engine.compile.recipe import backend_for
from launcher.engine.compile.toolkits import has_hip
from launcher.engine.devices import list_devices
from launcher.engine.find import Engine, backends_in, find_engine
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import EngineFailed, NotFound
from launcher.machine.machine import Backend, Device
from launcher.machine.probe.probe import machine_of
from launcher.progress import remark


def find(here: Here, explicit: Path | None, look: Look | None = None) -> Engine:
    """Find the engine in use; among those built here, the one for this machine's own backend.

    Raises NotFound, UsageError for a named one that cannot be used.
    """
    settings = here.settings
    look = look or look_once(here)
    return find_engine(
        explicit,
        settings.engine,
        settings.engines_dir,
        backend=lambda: backend_for(machine_of(look(), None), has_hip=has_hip()),
    )


def engine_or_none(here: Here, explicit: Path | None, look: Look | None = None) -> Engine | None:
    """Find the engine in use, None if there is none. Raises UsageError for a named one that is unusable."""
    try:
        return find(here, explicit, look)
    except NotFound:
        if explicit is not None or here.settings.engine is not None:
            raise
        return None


def refuse_unused_gpu(here: Here, engine: Engine, *, accepted: bool, look: Look | None = None) -> None:
    """Raise EngineFailed if this machine has a GPU and the engine none, unless that is accepted.

    It is said either way, before anything starts.
    """
    listed = list_devices(engine, here.env)
    if listed is None:  # an engine that cannot list is diagnosed when it is started
        return
    if any(not device.is_software for device in listed):
        return
    machine = machine_of((look or look_once(here))(), None)
    gpus = [device for device in machine.devices if device.backend is not Backend.CPU]
    if not gpus:
        return
    names = ", ".join(dict.fromkeys(device.name for device in gpus))
    text = f"THE GPU IS NOT USED: {names} is here, and {engine.path} lists no device"
    blind = not set(backends_in(engine.folder)) - {"cpu", "rpc"}
    if not blind:
        fix = "look at the GPU's driver: launcher doctor"
    elif engine.build is not None and engine.build.origin is not None:  # the best that others have built
        fix = "launcher engine build makes one that uses it"
    else:
        fix = "launcher engine install takes one that uses it"
    here.on_progress(remark("gpu", f"{text} ({fix})"))
    if not accepted and not here.consent(f"{text}. Go on with the processor alone?"):
        raise EngineFailed(text, hint=f"{fix}; to go on with the processor alone: --cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDescription:
    """An engine with what it says about itself."""

    engine: Engine
    capabilities: Capabilities
    # by ggml's names: cpu, vulkan, rpc
    backends: tuple[str, ...]
    # those it sees now, CPU left out; None if it cannot say
    devices: tuple[Device, ...] | None


def describe_engine(here: Here, explicit: Path | None) -> EngineDescription:
    """Ask the engine in use about itself. Raises NotFound without one."""
    engine = find(here, explicit)
    return EngineDescription(
        engine=engine,
        capabilities=read_capabilities(engine, here.settings.cache_dir),
        backends=backends_in(engine.folder),
        devices=list_devices(engine),
    )
