"""Look up graphics cards by the name people type (`3090`), with what their driver reports. Pure."""

from __future__ import annotations

import re
from difflib import get_close_matches

from launcher.errors import NotFound
from launcher.machine.cards.amd import amd_gpus
from launcher.machine.cards.apple import apple_gpus
from launcher.machine.cards.card import Gpu
from launcher.machine.cards.intel import intel_gpus
from launcher.machine.cards.nvidia import nvidia_gpus
from launcher.machine.machine import Backend, Device, Link
from launcher.units import GIB, MIB

_BY_KEY = {gpu.key: gpu for gpu in (*nvidia_gpus(), *amd_gpus(), *intel_gpus(), *apple_gpus())}

_ALIASES = {
    "h100-80g": "h100",
    "h200-141g": "h200",
    "a100": "a100-80g",
    "rtxpro6000": "pro6000",
    "pro6000-blackwell": "pro6000",
    "8060s": "strix-halo",
    "rx7900xtx": "7900xtx",
    "rx7900xt": "7900xt",
    "9060xt-8g": "9060xt",
    "mi50/mi60": "mi50",
    "proVII": "radeonvii",
    "dgx-spark": "gb10",
    "jetson-agx-thor": "thor",
    "jetson-agx-orin": "orin",
    "gb300": "b300",
}

# Mesa's RADV and ROCm name a part without a marketing name by its chip alone.
_CHIPS = (
    ("gfx1151", "strix-halo"),
    ("strix_halo", "strix-halo"),
    ("(lnl)", "arc-140v"),
    ("vega20", "mi50"),
    ("gfx906", "mi50"),
)

GPU_NAMES = tuple(_BY_KEY)

# What people add to a card's name: its memory, Apple's count of cores, the maker's own edition.
_DESCRIPTION = re.compile(
    r"\b(?P<gb>\d{1,3}) ?G(i?B)?\b|\b(?P<cores>\d{1,2})-cores?( gpu)?\b|\b(FE|Founders Edition)\b",
    re.IGNORECASE | re.ASCII,
)

METAL_SHARE_NOTE = "the GPU's share of unified memory is estimated: 2/3 of it up to 32 GiB, 3/4 above"


def gpu_named(name: str) -> Gpu:
    """Return the card people mean by `3090`, `rtx-4070-ti-super`, `RTX 5090 32GB`, `M2 Ultra 76-core GPU`.

    Raises NotFound with the nearest names, also for a card that has no variant of the size in its name.
    """
    gpu = gpu_of(name) or _described(name)
    if gpu is None:
        plain = _DESCRIPTION.sub("", name)
        near = get_close_matches(_normalized(plain), GPU_NAMES, n=4, cutoff=0.5) or GPU_NAMES[:4]
        raise NotFound(
            f"no GPU is known by the name {name!r}",
            hint=f"known names: {', '.join(near)}, …; a card by its size: --gpu 24G, --gpu cuda:24G; or in a "
            'file for --machine, as [[device]] with backend = "cuda", name and total = "16 GiB"',
        )
    return gpu


def gpu_of(name: str, total_bytes: int | None = None) -> Gpu | None:
    """Return the card with this short name or driver's name; of several, the one nearest in memory."""
    return _variant(_find(name), total_bytes)


def _described(name: str) -> Gpu | None:
    """Return the card of a name with a description; None if no variant of the card is like it."""
    found = list(_DESCRIPTION.finditer(name))
    gib = next((int(match["gb"]) for match in found if match["gb"]), None)
    cores = next((match["cores"] for match in found if match["cores"]), None)
    cards = _find(_DESCRIPTION.sub("", name))
    if cores and cards:
        exact = _BY_KEY.get(f"{cards[0].key}-{cores}c")
        cards = (exact,) if exact else cards
    card = _variant(cards, gib * GIB if gib and cards and cards[0].total_mib else None)
    # a modified card is another one; what a GPU without memory of its own has, the machine's RAM says
    if card is None or gib is None or card.total_mib is None:
        return card
    return card if abs(card.total_mib / 1024 - gib) <= 0.1 * gib else None


def idle_device(gpu: Gpu, *, id: str, ram_bytes: int) -> Device:  # noqa: A002 the field's name
    """Return the card as an idle device of a machine with `ram_bytes` of memory."""
    link = None
    if gpu.pcie_generation is not None or gpu.pcie_width is not None:
        link = Link(pcie_generation=gpu.pcie_generation, pcie_width=gpu.pcie_width)
    total = _mappable(gpu, ram_bytes) if gpu.total_mib is None else gpu.total_mib * MIB
    return Device(
        id=id,
        backend=gpu.backend,
        name=gpu.name,
        total_bytes=total,
        free_bytes=total - gpu.reserved_mib * MIB,
        shares_host_memory=gpu.total_mib is None,
        link=link,
        compute_capability=gpu.compute_capability,
    )


def metal_working_set(ram_bytes: int) -> int:
    """Estimate the unified memory that Metal lets a GPU use while `iogpu.wired_limit_mb` is 0."""
    # Metal's recommendedMaxWorkingSetSize in llama.cpp logs up to macOS 14: 10922 MiB of 16 GiB, 16384 of
    # 24, 98304 of 128 GiB. macOS 15 and later give more (12124 MiB of 16 GiB, 107.5 GiB of 128, 464 of
    # 512), so this errs on the small side; the engine's own list is exact.
    return ram_bytes * 2 // 3 if ram_bytes <= 32 * GIB else ram_bytes * 3 // 4


def _mappable(gpu: Gpu, ram_bytes: int) -> int:
    """Return the host memory that a GPU without its own may map by default."""
    if gpu.backend is Backend.METAL:
        return metal_working_set(ram_bytes)
    if gpu.backend is Backend.CUDA:
        return ram_bytes  # cudaMemGetInfo gives MemTotal on GB10 (XuehaiPan/nvitop#208)
    if "Intel" in gpu.name:
        return ram_bytes * 3 // 4  # Mesa, src/intel/vulkan/anv_device.c, anv_compute_sys_heap_size
    # Linux, drivers/gpu/drm/ttm/ttm_module.c, ttm_tt_init: num_pages / 2, the module parameter pages_limit
    return ram_bytes // 2


def _find(name: str) -> tuple[Gpu, ...]:
    """Return the cards of that name: one by its short name, all of a driver's name."""
    plain = re.sub(r"\((r|tm)\)", "", name, flags=re.IGNORECASE)
    # Vulkan's names end in the chip: `AMD Radeon 8060S Graphics (RADV STRIX_HALO)`
    for spelling in (plain, plain.partition(" (")[0]):
        found = _KNOWN.get(_normalized(spelling))
        if found is not None:
            return found
    chip = next((key for chip, key in _CHIPS if chip in name.lower()), None)
    return (_BY_KEY[chip],) if chip else ()


def _variant(cards: tuple[Gpu, ...], total_bytes: int | None) -> Gpu | None:
    if total_bytes is None or len(cards) < 2:
        return cards[0] if cards else None
    if cards[0].total_mib is not None:
        return min(cards, key=lambda card: abs((card.total_mib or 0) * MIB - total_bytes))
    # Metal lets a GPU use two thirds of the memory or more (`metal_working_set`); sizes are powers of two
    # apart or a third, so nine tenths separate them
    sizes = [(size, card) for card in cards for size in card.ram_gib]
    fitting = [card for size, card in sizes if 0.66 * size * GIB <= total_bytes <= 0.9 * size * GIB]
    return fitting[0] if fitting else cards[0]


def _known() -> dict[str, tuple[Gpu, ...]]:
    # short names win over aliases, those over the driver's names, of which several cards may have the same
    labels: dict[str, tuple[Gpu, ...]] = {}
    for gpu in _BY_KEY.values():
        label = _normalized(gpu.name)
        labels[label] = (*labels.get(label, ()), gpu)
    aliases = {_normalized(alias): _variants(_BY_KEY[key]) for alias, key in _ALIASES.items()}
    keys = {
        _normalized(key): _variants(gpu) if _normalized(key) == _normalized(gpu.name) else (gpu,)
        for key, gpu in _BY_KEY.items()
    }
    return labels | aliases | keys


def _variants(gpu: Gpu) -> tuple[Gpu, ...]:
    return (gpu, *(other for other in _BY_KEY.values() if other.name == gpu.name and other is not gpu))


def _normalized(name: str) -> str:
    """Keep what tells cards apart: `NVIDIA GeForce RTX 3090` -> `3090`."""
    words = re.sub(
        r"nvidia|geforce|rtx|amd|radeon|instinct|apple|tesla|\brx\b|\bintel\b|\barc\b|\bgraphics\b|\bgpu\b",
        "",
        re.sub(r"\((r|tm)\)", "", name.lower()),
    )
    return re.sub(r"[^a-z0-9]", "", words).removesuffix("gb").removesuffix("vram")


_KNOWN = _known()
