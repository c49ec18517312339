"""Read the memory in use on GPUs from their drivers, cheaply enough to be done while a model loads."""

# NVIDIA: NVML's memory info (v2 leaves the driver's reserve out). AMD: `mem_info_vram_used` in sysfs. Other
# drivers, software GPUs and GPUs in the host's memory say nothing, and have no reading.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.machine.probe.amd import read_cards, rocm_uuid
from launcher.machine.probe.nvml import memory_in_use
from launcher.machine.probe.proc_files import KernelFiles


class DriverVramReader:
    """A reader of the GPUs in `uuids`, which has the UUIDs by name."""

    def __init__(self, uuids: Mapping[str, str], files: KernelFiles | None = None) -> None:
        self._files = files or KernelFiles()
        self._amd = {rocm_uuid(card) for card in read_cards(self._files)}
        self._uuids = uuids
        # open until `close`: without NVIDIA's daemon the driver would start anew, for seconds, at every
        # reading
        self._nvml = _open_nvml() if set(uuids.values()) - self._amd else None

    def read(self) -> dict[str, int]:
        """Return bytes in use by name; leave out a GPU whose driver does not tell. Never raises."""
        cards = (
            {rocm_uuid(card): card.vram_used_bytes for card in read_cards(self._files)} if self._amd else {}
        )
        in_use = {
            name: cards[uuid] if uuid in cards else memory_in_use(self._nvml, uuid)
            for name, uuid in self._uuids.items()
        }
        return {name: used for name, used in in_use.items() if used is not None}

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            nvml.nvmlShutdown()


def _open_nvml() -> Any | None:
    import pynvml  # noqa: PLC0415  loaded only where a GPU is read

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
