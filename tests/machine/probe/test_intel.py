"""i915 or xe, from sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.machine.probe.intel import read_intel_driver
from launcher.machine.probe.proc_files import KernelFiles
from tests.machine.probe.trees import plant

GPU = "/sys/devices/pci0000:00/0000:00:02.0"
CARD = "/sys/devices/pci0000:00/0000:00:06.0/0000:03:00.0"


def intel(card: str, place: str, driver: str) -> dict[str, str]:
    return {
        f"/sys/class/drm/{card}/device -> {place}": "",
        f"{place}/vendor": "0x8086",
        f"{place}/driver -> /sys/bus/pci/drivers/{driver}": "",
    }


@pytest.mark.parametrize("driver", ["i915", "xe"])
def test_the_driver_is_the_integrated_gpus(tmp_path: Path, driver: str) -> None:
    other = "xe" if driver == "i915" else "i915"
    files = plant(tmp_path, **intel("card0", CARD, other), **intel("card1", GPU, driver))
    assert read_intel_driver(files) == driver


def test_a_card_alone_tells_nothing(tmp_path: Path) -> None:
    assert read_intel_driver(plant(tmp_path, **intel("card0", CARD, "xe"))) is None


def test_without_sysfs_nothing_is_known(tmp_path: Path) -> None:
    assert read_intel_driver(KernelFiles(root=tmp_path)) is None
    no_link = intel("card0", GPU, "xe")
    del no_link[f"{GPU}/driver -> /sys/bus/pci/drivers/xe"]
    assert read_intel_driver(plant(tmp_path, **no_link)) is None
