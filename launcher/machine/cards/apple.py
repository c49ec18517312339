"""List the GPUs of Apple's M chips. Pure."""

from __future__ import annotations

from launcher.machine.cards.card import Gpu
from launcher.machine.machine import Backend

# Bandwidth (GB/s) from Apple's technical specifications. Operations: FP16 of the shader cores, twice their
# FP32 figure (Metal has no faster INT8); M5's matrix units count as four times the shader cores' FP32, an
# extrapolation. Variants with less bandwidth are told apart by the memory that they are sold with.
# short name: chip, GB/s, 10^12 operations a second, GiB of memory that only this variant has
_CHIPS: dict[str, tuple[str, float, float, tuple[int, ...]]] = {
    "m1": ("M1", 68, 5.2, ()),
    "m1-pro": ("M1 Pro", 200, 10.4, ()),
    "m1-max": ("M1 Max", 400, 21.2, ()),
    "m1-ultra": ("M1 Ultra", 800, 42.4, ()),
    "m2": ("M2", 100, 7.2, ()),
    "m2-pro": ("M2 Pro", 200, 13.6, ()),
    "m2-max": ("M2 Max", 400, 27.2, ()),
    "m2-ultra": ("M2 Ultra", 800, 54.4, ()),
    "m3": ("M3", 100, 8.2, ()),
    "m3-pro": ("M3 Pro", 150, 14.8, ()),
    "m3-max": ("M3 Max", 400, 28.4, ()),
    "m3-max-30c": ("M3 Max", 300, 21.3, (36, 96)),
    "m3-ultra": ("M3 Ultra", 819, 56.8, ()),
    "m4": ("M4", 120, 8.5, ()),
    "m4-pro": ("M4 Pro", 273, 18.5, ()),
    "m4-max": ("M4 Max", 546, 36.8, ()),
    "m4-max-32c": ("M4 Max", 410, 29.4, (36,)),
    "m5": ("M5", 153, 16, ()),
    "m5-pro": ("M5 Pro", 307, 32, ()),
    "m5-max": ("M5 Max", 614, 64, ()),
}


def apple_gpus() -> tuple[Gpu, ...]:
    """Return the chips' GPUs."""
    return tuple(
        Gpu(
            key=key,
            name=f"Apple {chip}",
            backend=Backend.METAL,
            source="m",
            gb_s=gb_s,
            tera_ops=tera_ops,
            ram_gib=ram_gib,
        )
        for key, (chip, gb_s, tera_ops, ram_gib) in _CHIPS.items()
    )
