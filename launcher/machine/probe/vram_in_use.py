"""Memory in use on GPUs by their drivers' own account, cheap enough to be asked while a model loads.

NVIDIA: NVML's memory info (v2 leaves the driver's reserve out). AMD: `mem_info_vram_used` in sysfs. Other
drivers, software GPUs and GPUs in the host's memory say nothing, and have no reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.machine.probe.amd import read_cards, uuid_of
from launcher.machine.probe.nvml import memory_in_use
from launcher.machine.probe.proc_files import KernelFiles


class VramReader:
    """Reads the GPUs of `uuids` (UUID by the name under which each is told). NVML stays open from the first reading
    to `close`: without its daemon the driver would start anew, seconds long, at every reading."""

    def __init__(self, uuids: Mapping[str, str], files: KernelFiles | None = None) -> None:
        self._files = files or KernelFiles()
        self._amd = {uuid_of(card) for card in read_cards(self._files)}
        self._uuids = uuids
        self._nvml = _opened() if set(uuids.values()) - self._amd else None

    def read(self) -> dict[str, int]:
        """Bytes in use by name; what no driver tells is left out. Never raises."""
        cards = {uuid_of(card): card.vram_used_bytes for card in read_cards(self._files)} if self._amd else {}
        found = {
            name: cards[uuid] if uuid in cards else memory_in_use(self._nvml, uuid)
            for name, uuid in self._uuids.items()
        }
        return {name: used for name, used in found.items() if used is not None}

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            nvml.nvmlShutdown()


def _opened() -> Any | None:
    """NVML, started; None where there is no driver of NVIDIA's."""
    import pynvml  # noqa: PLC0415  loaded only where a GPU is read

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
