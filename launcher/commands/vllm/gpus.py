"""Tell which GPUs vLLM would use on machines: those that are equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from launcher.errors import DoesNotFit, UsageError
from launcher.machine.gpus import gpu_of
from launcher.machine.machine import Backend, Device, Machine
from launcher.plan.memory.budget import ram_reserve
from launcher.plan.vllm.ledger import UTILISATION
from launcher.plan.vllm.plan import GpuPool
from launcher.units import GIB, MIB

_FAMILIES = {Backend.CUDA, Backend.HIP}
_BEFORE_IT_LOOKS = 1 * GIB  # CUDA's context and NCCL are there before vLLM asks what is free; estimated
_UNKNOWN_RESERVE = 769 * MIB  # what a driver keeps of a card that no log was found of; the largest known


def pool_of(machines: Sequence[Machine], *, quantised: bool = True) -> GpuPool:
    """Return the GPUs of machines that are alike, or the processor for a model that is not quantised.

    Raises DoesNotFit where there is none for vLLM, UsageError for machines with different ones.
    """
    pools = {_pool(machine, quantised=quantised or len(machines) > 1) for machine in machines}
    if len(pools) > 1:
        names = sorted(f"{pool.per_machine} x {pool.name}" for pool in pools)
        raise UsageError(
            f"vLLM's ranks want equal machines, and these have {', '.join(names)}",
            hint="name equal machines, or plan without --engine vllm",
        )
    return replace(pools.pop(), machines=len(machines))


def _pool(machine: Machine, *, quantised: bool) -> GpuPool:
    kinds = Counter(
        (device.name, total_of(device)) for device in machine.devices if device.backend in _FAMILIES
    )
    if not kinds and not machine.devices and not quantised:
        free = max(machine.ram_available_bytes - ram_reserve(machine), 0)
        return GpuPool(name="the processor", total_bytes=free, per_machine=1, in_ram=True)
    if not kinds:
        raise DoesNotFit(
            "vLLM is planned for NVIDIA's and AMD's GPUs, and the machine has none of them (a processor "
            "alone is planned for models that are not quantised)",
            hint="launcher plan REF, without --engine vllm, plans for llama.cpp",
        )
    (name, total), count = max(kinds.items(), key=lambda item: (item[0][1] * item[1], item[0]))
    return GpuPool(name=name, total_bytes=total, per_machine=count)


def is_for_vllm(device: Device, pool: GpuPool) -> bool:
    """Tell if the device is one of the pool's."""
    return (device.name, total_of(device)) == (pool.name, pool.total_bytes) and device.backend in _FAMILIES


def total_of(device: Device) -> int:
    """Return a GPU's memory as CUDA names it to programs: less what its driver keeps."""
    known = gpu_of(device.name, device.total_bytes)
    return device.total_bytes - (_UNKNOWN_RESERVE if known is None else known.reserved_mib * MIB)


def utilisation_of(machines: Sequence[Machine]) -> Fraction:
    """Return vLLM's own share of each GPU, or less where others have taken memory of one."""
    return min(UTILISATION, most_utilisation(machines)) if _has_gpus(machines) else Fraction(1)


def most_utilisation(machines: Sequence[Machine]) -> Fraction:
    """Return the largest share of each GPU that vLLM starts with."""
    if not _has_gpus(machines):
        return Fraction(1)  # of the RAM that is free
    # vLLM refuses to start with less free than the share that it is told (vllm/v1/worker/gpu_worker.py)
    shares = [
        Fraction(max(min(_free_of(device), total) - _BEFORE_IT_LOOKS, 0) * 100 // total, 100)
        for machine in machines
        for device in machine.devices
        if device.backend in _FAMILIES and (total := total_of(device)) > 0
    ]
    return min(shares, default=Fraction(1))


def _has_gpus(machines: Sequence[Machine]) -> bool:
    return any(device.backend in _FAMILIES for machine in machines for device in machine.devices)


def _free_of(device: Device) -> int:
    return device.total_bytes if device.free_bytes is None else device.free_bytes
