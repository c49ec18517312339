"""Hold what a search is given: the quants on offer, the machine and the request."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Limits, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A quant that may be taken."""

    quant: str
    model: ModelFile
    simulator: ModelSimulator | None = None  # None: it cannot be simulated
    fetch_bytes: int = 0  # what would have to be downloaded
    notes: tuple[str, ...] = ()  # where the headers are from, if not from the model's files


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    machine: Machine
    workload: Workload
    limits: Limits = Limits()
    default_ctx: int | None = None  # the profile's
    preferred_ctx: int | None = None  # the user's for all models; less where one was trained for less
    companions: Companions = NO_COMPANIONS
