"""Ask an engine which devices it sees."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.engine.ask import ask_engine
from launcher.engine.find import Engine
from launcher.errors import EngineFailed
from launcher.machine.machine import Backend, Device
from launcher.machine.probe.device_list import parse_device_list


def list_devices(engine: Engine, environment: Mapping[str, str] | None = None) -> tuple[Device, ...] | None:
    """Return the devices it lists, without the CPU; None if it cannot say (ik_llama.cpp has no such flag)."""
    try:
        return parse_device_list(ask_engine(engine.path, "--list-devices", environment=environment))
    except EngineFailed:
        # built here without a GPU's backend, it has none
        return () if engine.build is not None and engine.build.backend is Backend.CPU else None
