"""A model, an engine and a machine that something was measured with."""

from __future__ import annotations

from launcher.machine.rig import Rig
from launcher.plan.forecast.subject import Subject

SUBJECT = Subject(
    date="2026-11-30",
    model_id="m",
    family="llama",
    quant="Q4_0",
    size_bytes=4 << 30,
    engine="0c1e570",
    rig=Rig(cpu="AMD EPYC 9355", ram_total_bytes=64 << 30, devices=()),
)
