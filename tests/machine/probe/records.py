"""What NVML and engines answer, with the figures of published logs (totals: see launcher.machine.gpus)."""

from __future__ import annotations

from launcher.machine.machine import Device
from launcher.machine.probe.device_list import parse_device_list
from launcher.machine.probe.nvidia import MigInstance, NvidiaGpu, NvidiaReading
from launcher.units import MIB


def gpu(number: int, name: str, mib: tuple[int, int], capability: str, link: tuple[int, int]) -> NvidiaGpu:
    total_mib, reserved_mib = mib
    return NvidiaGpu(
        uuid=f"GPU-{number:08x}-aaaa-bbbb-cccc-{number:012x}",
        name=name,
        bus_id=f"00000000:{number + 1:02x}:00.0",
        total_bytes=total_mib * MIB,
        reserved_bytes=reserved_mib * MIB,
        free_bytes=(total_mib - reserved_mib) * MIB,
        pcie_generation=link[0],
        pcie_width=link[1],
        compute_capability=capability,
        display=False,
    )


def listed(*lines: str) -> tuple[Device, ...]:
    return parse_device_list("\n".join(("Available devices:", *(f"  {line}" for line in lines))))


EIGHT_H100 = NvidiaReading(
    driver="580.95.05",
    gpus=tuple(gpu(number, "NVIDIA H100 80GB HBM3", (81559, 478), "9.0", (5, 16)) for number in range(8)),
)

RTX_3060 = gpu(0x30, "NVIDIA GeForce RTX 3060", (12288, 379), "8.6", (3, 4))
RTX_3090 = gpu(0x31, "NVIDIA GeForce RTX 3090", (24576, 455), "8.6", (4, 16))
RTX_5090 = gpu(0x32, "NVIDIA GeForce RTX 5090", (32607, 458), "12.0", (5, 16))

_A100 = gpu(0xA, "NVIDIA A100-SXM4-80GB", (81920, 769), "8.0", (4, 16))
A100_MIG = NvidiaReading(
    driver="580.95.05",
    gpus=(
        NvidiaGpu(
            uuid=_A100.uuid,
            name=_A100.name,
            bus_id=_A100.bus_id,
            total_bytes=_A100.total_bytes,
            reserved_bytes=_A100.reserved_bytes,
            free_bytes=_A100.free_bytes,
            pcie_generation=4,
            pcie_width=16,
            compute_capability="8.0",
            display=False,
            mig_enabled=True,
            mig=tuple(
                MigInstance(
                    uuid=f"MIG-{number}1111111-2222-5333-8444-555555555555",
                    name="NVIDIA A100-SXM4-80GB MIG 3g.40gb",
                    total_bytes=40192 * MIB,
                    free_bytes=40155 * MIB,
                )
                for number in (6, 7)
            ),
        ),
    ),
)
