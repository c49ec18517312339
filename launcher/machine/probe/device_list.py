"""Parse the devices that llama.cpp itself lists: `llama-server --list-devices`. Pure."""

from __future__ import annotations

import re

from launcher.machine.machine import Backend, Device
from launcher.machine.shared_memory import shares_by_kind
from launcher.units import MIB

# llama.cpp's device names without their number (GGML_CUDA_NAME, GGML_VK_NAME, GGML_METAL_NAME,
# GGML_SYCL_NAME in ggml/include and ggml/src; `Metal` until 2025). Devices of other names are left out:
# BLAS, RPC servers, and backends for which we plan nothing (CANN, OpenCL, HTP, WebGPU).
_BACKENDS = {
    "CUDA": Backend.CUDA,
    "ROCm": Backend.HIP,
    "HIP": Backend.HIP,
    "Vulkan": Backend.VULKAN,
    "MTL": Backend.METAL,
    "Metal": Backend.METAL,
    "SYCL": Backend.SYCL,
}

# common/arg.cpp, common_print_available_devices: "  %s: %s (%zu MiB, %zu MiB free)\n"
_LINE = re.compile(
    r"^ +(?P<id>(?P<family>[A-Za-z]+)\d*): (?P<name>.*) "
    r"\((?P<total>\d{1,9}) MiB, (?P<free>\d{1,9}) MiB free\)\s*$",
    re.MULTILINE,
)


def parse_device_list(text: str) -> tuple[Device, ...]:
    """Return the GPUs of the list in its order, which is llama.cpp's; ignore other output around the list."""
    header = text.rfind("Available devices:")
    devices = []
    for match in _LINE.finditer(text, max(header, 0)):
        backend, total = _BACKENDS.get(match["family"]), int(match["total"]) * MIB
        # a backend that cannot ask its driver prints 0 MiB: the device is broken
        if backend is not None and total > 0:
            devices.append(
                Device(
                    id=match["id"],
                    backend=backend,
                    name=match["name"],
                    total_bytes=total,
                    free_bytes=min(int(match["free"]) * MIB, total),
                    shares_host_memory=shares_by_kind(backend, match["name"]),
                )
            )
    return tuple(devices)
