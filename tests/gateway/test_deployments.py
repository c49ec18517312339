"""What a deployment is seen to take."""

from __future__ import annotations

from launcher.deployment.history import HistoryEntry, Identity
from launcher.deployment.options import SupervisorOptions
from launcher.gateway.deployments import seen_bytes
from tests.deployment.recorded import a_deployment


def entry(name: str, outcome: str = "ready", **grown: int) -> HistoryEntry:
    return HistoryEntry(
        at="2026-11-30T00:00:00+00:00", name=name, model_id="m", identity=Identity(plan="p", engine=None, driver=None),
        outcome=outcome, load_s=1.0, driver_bytes=grown,
    )  # fmt: skip


def test_what_drivers_saw_replaces_what_was_planned() -> None:
    deployment = a_deployment("m", options=SupervisorOptions(devices={"CUDA0": "GPU-1"}))
    planned = {"ram": 10, "GPU-1": 20}
    history = (entry("m", CUDA0=5), entry("other", CUDA0=7), entry("m", CUDA0=23))
    assert seen_bytes(planned, deployment, history) == {"ram": 10, "GPU-1": 23}
    # nothing was seen, or of another load
    assert seen_bytes(planned, deployment, ()) == planned
    assert seen_bytes(planned, deployment, (entry("m"),)) == planned
    assert seen_bytes(planned, deployment, (entry("m", CUDA0=23), entry("m", "failed", CUDA0=1))) == planned
    assert seen_bytes(planned, deployment, (entry("m", CUDA7=23),)) == planned
