"""The edge to NVML, against a small library with NVML's ABI, and against this machine's own state."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.machine.probe.nvml import read_nvidia
from launcher.units import MIB

SHOW = (
    "import dataclasses, json; from launcher.machine.probe.nvml import read_nvidia;"
    "print(json.dumps(dataclasses.asdict(read_nvidia())))"
)


def reading(library: Path, machine: str) -> dict[str, Any]:
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": machine}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_two_gpus_and_a_lost_one(library: Path) -> None:
    found = reading(library, "two")
    assert found["driver"] == "580.95.05"
    first, second = found["gpus"]
    assert first == {
        "uuid": "GPU-1",
        "name": "NVIDIA GeForce RTX 3090",
        "bus_id": "00000000:01:00.0",
        "total_bytes": 24576 * MIB,
        "reserved_bytes": 455 * MIB,
        "free_bytes": 24100 * MIB,
        "pcie_generation": 4,
        "pcie_width": 8,
        "compute_capability": "8.6",
        "display": True,
        "mig_enabled": False,
        "mig": [],
    }
    assert (second["name"], second["total_bytes"], second["pcie_width"], second["display"]) == (
        "NVIDIA GB10",
        None,
        None,
        None,
    )
    assert found["notes"][0].startswith("NVIDIA GPU 2 cannot be read")


def test_mig_instances_with_gaps(library: Path) -> None:
    (gpu,) = reading(library, "mig")["gpus"]
    assert gpu["mig_enabled"] is True
    assert [(mig["uuid"], mig["total_bytes"]) for mig in gpu["mig"]] == [
        ("MIG-11", 40192 * MIB),
        ("MIG-13", 40192 * MIB),
    ]


def test_a_driver_that_knows_no_reserve(library: Path) -> None:
    (gpu,) = reading(library, "old")["gpus"]
    assert (gpu["total_bytes"], gpu["reserved_bytes"], gpu["free_bytes"]) == (24576 * MIB, None, 24000 * MIB)


@pytest.mark.parametrize(
    ("machine", "words"),
    [("mismatch", "reboot"), ("denied", "/dev/nvidia"), ("odd", "NVML answers"), ("unloaded", None)],
)
def test_a_broken_driver_is_a_note_with_the_fix(library: Path, machine: str, words: str | None) -> None:
    found = reading(library, machine)
    assert found["gpus"] == []
    assert [words in note for note in found["notes"]] == ([] if words is None else [True])


def test_this_very_machine() -> None:
    for gpu in read_nvidia().gpus:
        assert gpu.uuid.startswith("GPU-")
