"""Read AMD GPUs from sysfs (/sys/class/drm/card*/device), as the amdgpu driver fills it, without ROCm."""

# An APU has two kinds of memory: what the firmware set aside (`mem_info_vram_total`), and what the driver
# may map of the host's (`mem_info_gtt_total`, bounded by the kernel's ttm.pages_limit). Both are one pool
# to llama.cpp.

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.machine import Backend, Device, DevicesAndNotes, Link
from launcher.machine.probe.proc_files import KernelFiles
from launcher.units import format_bytes

_DRM = "/sys/class/drm"
_VENDOR = 0x1002

# PCI ids of APUs (Linux, drivers/gpu/drm/amd/amdgpu/amdgpu_drv.c and the pci.ids database), with the names
# their GPUs are sold under; a newer one is known by its gpu_metrics
_APUS = {
    0x15DD: "AMD Radeon Vega Graphics (Raven)",
    0x15D8: "AMD Radeon Vega Graphics (Picasso)",
    0x1636: "AMD Radeon Graphics (Renoir)",
    0x1638: "AMD Radeon Graphics (Cezanne)",
    0x164C: "AMD Radeon Graphics (Lucienne)",
    0x163F: "AMD Custom GPU 0405 (Van Gogh)",
    0x1681: "AMD Radeon 680M (Rembrandt)",
    0x164E: "AMD Radeon Graphics (Raphael)",
    0x13C0: "AMD Radeon Graphics (Granite Ridge)",
    0x15BF: "AMD Radeon 780M (Phoenix)",
    0x15C8: "AMD Radeon 740M (Phoenix)",
    0x1900: "AMD Radeon 780M (Hawk Point)",
    0x150E: "AMD Radeon 890M (Strix Point)",
    0x1586: "AMD Radeon 8060S (Strix Halo)",
    0x1114: "AMD Radeon 860M (Krackan Point)",
}

# the cards people run models on, where the driver has no product_name (it has one for Instinct and Radeon
# Pro)
_CARDS = {
    0x744C: "AMD Radeon RX 7900 XTX / XT",
    0x7448: "AMD Radeon Pro W7900",
    0x7550: "AMD Radeon RX 9070 XT / 9070",
    0x7551: "AMD Radeon AI PRO R9700",
    0x73BF: "AMD Radeon RX 6900 XT / 6800 XT / 6800",
    0x66A1: "AMD Instinct MI50 / MI60",
    0x74A0: "AMD Instinct MI300A",
    0x74A1: "AMD Instinct MI300X",
    0x74A5: "AMD Instinct MI325X",
}

# the APU without memory of its own: its "VRAM" is what the driver takes of the host's (Linux, amdgpu_ttm.c,
# gmc.is_app_apu)
_MI300A = 0x74A0

# PCI Express generation by transfer rate in GT/s (PCI Express base specification)
_GENERATIONS = {
    "2.5": 1,
    "5.0": 2,
    "5": 2,
    "8.0": 3,
    "8": 3,
    "16.0": 4,
    "16": 4,
    "32.0": 5,
    "32": 5,
    "64.0": 6,
    "64": 6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdCard:
    """One card as sysfs shows it."""

    bus_id: str
    device_id: int
    name: str
    is_apu: bool
    vram_total_bytes: int
    vram_used_bytes: int | None
    gtt_total_bytes: int | None
    gtt_used_bytes: int | None
    unique_id: str | None
    link: Link | None
    display: bool | None

    @property
    def carve_out_bytes(self) -> int:
        """Memory that the firmware took from the host."""
        return self.vram_total_bytes if self.is_apu and self.device_id != _MI300A else 0

    @property
    def mappable_bytes(self) -> int:
        """Memory of the host that the driver may map, besides its own."""
        return self.gtt_total_bytes or 0 if self.carve_out_bytes else 0

    def free_bytes(self, ram_available: int) -> int | None:
        """Return what no process of the host has; None if the driver does not tell."""
        if self.vram_used_bytes is None:
            return None
        mappable = self.mappable_bytes and self.mappable_bytes - (self.gtt_used_bytes or 0)
        return max(0, self.vram_total_bytes - self.vram_used_bytes + min(mappable, ram_available))


def read_cards(files: KernelFiles) -> tuple[AmdCard, ...]:
    """Read the cards of the amdgpu driver, in PCI bus order; leave out those that report no memory."""
    cards = []
    for name in files.names(_DRM, r"card\d+"):
        folder = f"{_DRM}/{name}/device"
        vram = files.number(f"{folder}/mem_info_vram_total")
        if files.number(f"{folder}/vendor") == _VENDOR and vram is not None:
            cards.append(_read_card(files, name, folder, vram))
    return tuple(sorted(cards, key=lambda card: card.bus_id))


def amd_devices(cards: Sequence[AmdCard], backend: Backend, ram_available: int) -> DevicesAndNotes:
    """Return the cards as llama.cpp's ROCm or Vulkan devices, and notes about them."""
    prefix = "ROCm" if backend is Backend.HIP else "Vulkan"
    devices = tuple(
        _as_device(card, f"{prefix}{number}", backend, ram_available) for number, card in enumerate(cards)
    )
    return devices, tuple(_pool_note(card) for card in cards if card.is_apu)


def _as_device(card: AmdCard, name: str, backend: Backend, ram_available: int) -> Device:
    return Device(
        id=name,
        backend=backend,
        name=card.name,
        total_bytes=card.vram_total_bytes + card.mappable_bytes,
        free_bytes=card.free_bytes(ram_available),
        shares_host_memory=card.is_apu,
        carve_out_bytes=card.carve_out_bytes,
        uuid=rocm_uuid(card),
        link=card.link,
        display=card.display,
    )


def rocm_uuid(card: AmdCard) -> str | None:
    """Return ROCm's name for the card; None for an APU, which has none."""
    # rocminfo: `Uuid: GPU-` and the 16 digits of unique_id in sysfs
    return None if card.unique_id is None else f"GPU-{card.unique_id}"


def _pool_note(card: AmdCard) -> str:
    return (
        f"{card.name} shares the host's memory: "
        f"{format_bytes(card.carve_out_bytes)} set aside by the firmware "
        f"and up to {format_bytes(card.gtt_total_bytes)} mapped from RAM (GTT), one pool"
    )


def note_gtt_limit(files: KernelFiles, cards: Sequence[AmdCard]) -> tuple[str, ...]:
    """Return a note if the kernel's limit on mapped pages is below the memory that the driver reports."""
    pages = files.number("/sys/module/ttm/parameters/pages_limit")
    largest = max((card.gtt_total_bytes or 0 for card in cards if card.is_apu), default=0)
    if pages is None or pages * 4096 >= largest:
        return ()
    note = (
        f"ttm.pages_limit lets the GPU map {format_bytes(pages * 4096)}, "
        f"less than its {format_bytes(largest)} of GTT; "
        f"the kernel parameter ttm.pages_limit={largest // 4096} raises it"
    )
    return (note,)


def _read_card(files: KernelFiles, card: str, folder: str, vram: int) -> AmdCard:
    device_id = files.number(f"{folder}/device") or 0
    place = _device_folder(files, folder)
    name = files.text(f"{folder}/product_name") or _APUS.get(device_id) or _CARDS.get(device_id)
    unique_id = files.text(f"{folder}/unique_id") or ""
    is_apu = device_id in {*_APUS, _MI300A} or _metrics_say_apu(files.data(f"{folder}/gpu_metrics", 4) or b"")
    return AmdCard(
        bus_id=place.name,
        device_id=device_id,
        name=name or f"AMD GPU {_VENDOR:04x}:{device_id:04x}",
        is_apu=is_apu,
        vram_total_bytes=vram,
        vram_used_bytes=files.number(f"{folder}/mem_info_vram_used"),
        gtt_total_bytes=files.number(f"{folder}/mem_info_gtt_total"),
        gtt_used_bytes=files.number(f"{folder}/mem_info_gtt_used"),
        unique_id=unique_id if re.fullmatch(r"[0-9a-f]{16}", unique_id) and int(unique_id, 16) else None,
        link=None if is_apu else _read_link(files, place),
        display=_drives_display(files, card),
    )


def _device_folder(files: KernelFiles, folder: str) -> Path:
    # below /sys/devices, where each bridge on the way is a folder
    return Path(os.path.realpath(files.at(folder)))


def _metrics_say_apu(header: bytes) -> bool:
    # gpu_metrics begins with its size (2 bytes), then the format: 1 for cards, 2 and 3 for APUs (Linux,
    # metrics_table_header in drivers/gpu/drm/amd/include/kgd_pp_interface.h)
    return len(header) == 4 and header[2] in {2, 3}


def _read_link(files: KernelFiles, place: Path) -> Link | None:
    """Return the narrowest link between card and root; None if sysfs tells nothing."""
    # AMD cards carry a bridge whose inner side is always x16, so every step counts. The speed is the most
    # that a step can do, because it drops while the card idles; the width is the negotiated one.
    generations: list[int] = []
    widths: list[int] = []
    inside = KernelFiles(root=place)
    while inside.text("/max_link_speed") is not None:
        speed = (inside.text("/max_link_speed") or "").split(" ")[0]
        width = inside.number("/current_link_width")
        generations += [_GENERATIONS[speed]] if speed in _GENERATIONS else []
        widths += [width] if width else []
        if inside.root in {files.root, inside.root.parent}:
            break
        inside = KernelFiles(root=inside.root.parent)
    if not generations and not widths:
        return None
    return Link(pcie_generation=min(generations, default=None), pcie_width=min(widths, default=None))


def _drives_display(files: KernelFiles, card: str) -> bool | None:
    outputs = files.names(_DRM, rf"{card}-.+")
    if not outputs:
        return None
    # a monitor is on one of the card's connectors: card0-DP-1/status
    return any(files.text(f"{_DRM}/{output}/status") == "connected" for output in outputs)
