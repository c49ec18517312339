"""Look up graphics cards by the name people type (`3090`), with what their driver reports. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from launcher.errors import NotFound
from launcher.machine.machine import Backend, Device, Link
from launcher.units import GIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A graphics card as its driver reports it."""

    name: str
    backend: Backend
    total_mib: int | None  # None: the memory is the machine's own (Apple silicon, APUs)
    reserved_mib: int
    pcie_generation: int | None
    pcie_width: int | None
    compute_capability: str | None
    source: str


# Sources, by the letter of a row:
#   s  total as `nvidia-smi` reports it, from published logs and vendor pages (nominal size minus what ECC and
#      the display engine keep); reserved: total minus the "VRAM" that llama.cpp prints for the same card on
#      Linux (ggml_cuda_init, R570 to R580 drivers), from published logs
#   n  the same total; no Linux log of this card was found, the reserve is that of the nearest card with one
#   a  `mem_info_vram_total` of the amdgpu driver, as llama.cpp's Vulkan backend lists it (RADV)
#   m  Apple silicon: memory is the machine's, see `metal_working_set`
# PCI Express and compute capability are from the vendors' specification pages and the CUDA GPU list.

# short name: driver's name, total MiB, reserved MiB, PCIe generation, lanes, compute capability, source
_CUDA: dict[str, tuple[str, int, int, int, int, str, str]] = {
    "3060": ("NVIDIA GeForce RTX 3060", 12288, 379, 4, 16, "8.6", "s"),
    "3060ti": ("NVIDIA GeForce RTX 3060 Ti", 8192, 379, 4, 16, "8.6", "n"),
    "3070": ("NVIDIA GeForce RTX 3070", 8192, 379, 4, 16, "8.6", "n"),
    "3070ti": ("NVIDIA GeForce RTX 3070 Ti", 8192, 379, 4, 16, "8.6", "n"),
    "3080": ("NVIDIA GeForce RTX 3080", 10240, 379, 4, 16, "8.6", "n"),
    "3080-12g": ("NVIDIA GeForce RTX 3080", 12288, 379, 4, 16, "8.6", "n"),
    "3080ti": ("NVIDIA GeForce RTX 3080 Ti", 12288, 379, 4, 16, "8.6", "n"),
    "3090": ("NVIDIA GeForce RTX 3090", 24576, 455, 4, 16, "8.6", "s"),
    "3090ti": ("NVIDIA GeForce RTX 3090 Ti", 24564, 455, 4, 16, "8.6", "n"),
    "4060": ("NVIDIA GeForce RTX 4060", 8188, 436, 4, 8, "8.9", "n"),
    "4060ti": ("NVIDIA GeForce RTX 4060 Ti", 8188, 436, 4, 8, "8.9", "n"),
    "4060ti-16g": ("NVIDIA GeForce RTX 4060 Ti", 16380, 436, 4, 8, "8.9", "s"),
    "4070": ("NVIDIA GeForce RTX 4070", 12282, 409, 4, 16, "8.9", "s"),
    "4070super": ("NVIDIA GeForce RTX 4070 SUPER", 12282, 409, 4, 16, "8.9", "n"),
    "4070ti": ("NVIDIA GeForce RTX 4070 Ti", 12282, 409, 4, 16, "8.9", "n"),
    "4070tisuper": ("NVIDIA GeForce RTX 4070 Ti SUPER", 16376, 436, 4, 16, "8.9", "n"),
    "4080": ("NVIDIA GeForce RTX 4080", 16376, 436, 4, 16, "8.9", "n"),
    "4080super": ("NVIDIA GeForce RTX 4080 SUPER", 16376, 436, 4, 16, "8.9", "n"),
    "4090": ("NVIDIA GeForce RTX 4090", 24564, 484, 4, 16, "8.9", "s"),
    "5060": ("NVIDIA GeForce RTX 5060", 8151, 486, 5, 8, "12.0", "n"),
    "5060ti": ("NVIDIA GeForce RTX 5060 Ti", 8151, 486, 5, 8, "12.0", "n"),
    "5060ti-16g": ("NVIDIA GeForce RTX 5060 Ti", 16311, 486, 5, 8, "12.0", "s"),
    "5070": ("NVIDIA GeForce RTX 5070", 12227, 461, 5, 16, "12.0", "n"),
    "5070ti": ("NVIDIA GeForce RTX 5070 Ti", 16303, 461, 5, 16, "12.0", "s"),
    "5080": ("NVIDIA GeForce RTX 5080", 16303, 461, 5, 16, "12.0", "n"),
    "5090": ("NVIDIA GeForce RTX 5090", 32607, 458, 5, 16, "12.0", "s"),
    "a6000": ("NVIDIA RTX A6000", 49140, 569, 4, 16, "8.6", "n"),
    "6000ada": ("NVIDIA RTX 6000 Ada Generation", 49140, 569, 4, 16, "8.9", "s"),
    "pro6000": ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, 569, 5, 16, "12.0", "n"),
    "t4": ("Tesla T4", 15360, 455, 3, 16, "7.5", "n"),
    "l4": ("NVIDIA L4", 23034, 601, 4, 16, "8.9", "n"),
    "l40s": ("NVIDIA L40S", 46068, 601, 4, 16, "8.9", "s"),
    "a40": ("NVIDIA A40", 46068, 601, 4, 16, "8.6", "n"),
    "a100-40g": ("NVIDIA A100-SXM4-40GB", 40960, 769, 4, 16, "8.0", "n"),
    "a100-80g": ("NVIDIA A100-SXM4-80GB", 81920, 769, 4, 16, "8.0", "s"),
    "h100": ("NVIDIA H100 80GB HBM3", 81559, 478, 5, 16, "9.0", "s"),
    "h200": ("NVIDIA H200", 143771, 478, 5, 16, "9.0", "n"),
}

# short name: driver's name, backend, total MiB, PCIe generation, lanes
_AMD: dict[str, tuple[str, Backend, int, int, int]] = {
    "7900xtx": ("AMD Radeon RX 7900 XTX", Backend.HIP, 24560, 4, 16),
    "7900xt": ("AMD Radeon RX 7900 XT", Backend.HIP, 20464, 4, 16),
    "mi300x": ("AMD Instinct MI300X", Backend.HIP, 196592, 5, 16),
}

# the GPUs that share the host's memory: driver's name, backend
_SHARED: dict[str, tuple[str, Backend]] = {
    "strix-halo": ("AMD Radeon 8060S Graphics", Backend.VULKAN),
    **{
        f"m{generation}{kind}": (f"Apple M{generation}{kind.replace('-', ' ').title()}", Backend.METAL)
        for generation, kinds in (
            (1, ("", "-pro", "-max", "-ultra")),
            (2, ("", "-pro", "-max", "-ultra")),
            (3, ("", "-pro", "-max", "-ultra")),
            (4, ("", "-pro", "-max")),
            (5, ("", "-pro", "-max")),
        )
        for kind in kinds
    },
}

_ALIASES = {
    "h100-80g": "h100",
    "h200-141g": "h200",
    "a100": "a100-80g",
    "rtxpro6000": "pro6000",
    "8060s": "strix-halo",
    "rx7900xtx": "7900xtx",
    "rx7900xt": "7900xt",
}

GPU_NAMES = (*_CUDA, *_AMD, *_SHARED)

METAL_SHARE_NOTE = "the GPU's share of unified memory is estimated: 2/3 of it up to 32 GiB, 3/4 above"


def gpu_named(name: str) -> Gpu:
    """Return the card people mean by `3090`, `RTX 3090`, `rtx-4070-ti-super`, `H100`.

    Raises NotFound with the nearest names.
    """
    key = _find(name)
    if key is None:
        near = get_close_matches(_normalized(name), GPU_NAMES, n=4, cutoff=0.5) or GPU_NAMES[:4]
        raise NotFound(
            f"no GPU is known by the name {name!r}",
            hint=f"known names: {', '.join(near)}, …; another one goes into a file for --machine, "
            'as [[device]] with backend = "cuda", name and total = "16 GiB"',
        )
    if key in _CUDA:
        label, total, reserved, generation, width, capability, source = _CUDA[key]
        return Gpu(
            name=label,
            backend=Backend.CUDA,
            total_mib=total,
            reserved_mib=reserved,
            pcie_generation=generation,
            pcie_width=width,
            compute_capability=capability,
            source=source,
        )
    label, backend = _SHARED[key] if key in _SHARED else _AMD[key][:2]
    _, _, total_mib, generation_, width_ = _AMD.get(key, (None, None, None, None, None))
    return Gpu(
        name=label,
        backend=backend,
        total_mib=total_mib,
        reserved_mib=0,
        pcie_generation=generation_,
        pcie_width=width_,
        compute_capability=None,
        source="a" if backend is not Backend.METAL else "m",
    )


def gpu_key(name: str) -> str | None:
    """Return the short name of a card by its driver's name; None if it is not known."""
    return _find(name)


def idle_device(gpu: Gpu, *, id: str, ram_bytes: int) -> Device:  # noqa: A002 the field's name
    """Return the card as an idle device of a machine with `ram_bytes` of memory."""
    link = None
    if gpu.pcie_generation is not None or gpu.pcie_width is not None:
        link = Link(pcie_generation=gpu.pcie_generation, pcie_width=gpu.pcie_width)
    if gpu.total_mib is None:
        total = metal_working_set(ram_bytes) if gpu.backend is Backend.METAL else _gtt_default(ram_bytes)
    else:
        total = gpu.total_mib * MIB
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


def _gtt_default(ram_bytes: int) -> int:
    """Return the host memory that amdgpu lets an APU map by default."""
    # Linux, drivers/gpu/drm/ttm/ttm_module.c, ttm_tt_init: num_pages / 2, the module parameter pages_limit
    return ram_bytes // 2


def _find(name: str) -> str | None:
    # short names win over aliases, those over the driver's names, of which two cards may have the same
    known = {_normalized(key): key for key in GPU_NAMES}
    known |= {_normalized(alias): key for alias, key in _ALIASES.items()}
    labels = [(key, row[0]) for key, row in _CUDA.items()]
    labels += [(key, row[0]) for key, row in _AMD.items()]
    labels += [(key, row[0]) for key, row in _SHARED.items()]
    for key, label in labels:
        known.setdefault(_normalized(label), key)
    # Vulkan's names end in the chip: `AMD Radeon 8060S Graphics (RADV STRIX_HALO)`
    return known.get(_normalized(name)) or known.get(_normalized(name.partition(" (")[0]))


def _normalized(name: str) -> str:
    """Keep what tells cards apart: `NVIDIA GeForce RTX 3090` -> `3090`."""
    words = re.sub(r"nvidia|geforce|rtx|amd|radeon|instinct|apple|tesla|\brx\b", "", name.lower())
    return re.sub(r"[^a-z0-9]", "", words).removesuffix("gb").removesuffix("vram")
