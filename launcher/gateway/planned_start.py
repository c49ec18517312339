"""What a model is planned and started with, and what is planned for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.commands.here import Here
from launcher.engine.find import Engine
from launcher.gateway.admission.state import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """With what models are planned and started."""

    here: Here
    engine: Engine | None
    engine_path: Path | None  # as it was typed
    max_ram_bytes: int | None
    api_key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStart:
    needs: Bytes
    load_s: float
    can_shrink: bool = False  # it has layers on GPUs
    tokens_per_s: float | None = None  # forecast
