"""Predict which NVIDIA GPUs CUDA will show to llama.cpp, and in which order, from NVML's list. Pure."""

# NVML numbers GPUs by PCI bus. CUDA numbers them by CUDA_DEVICE_ORDER, whose default puts the fastest first
# by a rule of its own, and shows what CUDA_VISIBLE_DEVICES leaves (CUDA C++ Programming Guide, CUDA
# environment variables). Where the two cannot be matched without CUDA a note says so.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import Backend, Device, DevicesAndNotes, Link
from launcher.machine.shared_memory import shares

CUDA_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # those that `cuda_devices` looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """One slice of a GPU in MIG mode, with memory of its own."""

    uuid: str  # MIG-…
    name: str | None
    total_bytes: int
    free_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpu:
    """One GPU as NVML reports it."""

    uuid: str
    name: str
    bus_id: str | None
    total_bytes: int | None  # None: it shares the host's memory
    reserved_bytes: int | None
    free_bytes: int | None
    pcie_generation: int | None
    pcie_width: int | None
    compute_capability: str | None
    display: bool | None
    mig_enabled: bool = False
    mig: tuple[MigInstance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaReading:
    driver: str | None = None
    gpus: tuple[NvidiaGpu, ...] = ()  # in PCI bus order
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A device that CUDA can show: a whole GPU, or one MIG instance of it."""

    gpu: NvidiaGpu
    mig: MigInstance | None = None

    @property
    def uuid(self) -> str:
        return self.mig.uuid if self.mig else self.gpu.uuid


def cuda_devices(
    reading: NvidiaReading, variables: Mapping[str, str], ram_total: int, ram_available: int
) -> DevicesAndNotes:
    """Return the devices CUDA will show, as CUDA0, CUDA1, …, and notes about them.

    `variables` is the environment llama.cpp will run in. The host's memory stands in for GPUs that share it.
    """
    notes = list(reading.notes)
    ordered, doubt = _cuda_order(reading.gpus, variables.get("CUDA_DEVICE_ORDER", ""))
    whole = [_Choice(gpu=gpu) for gpu in ordered if not gpu.mig_enabled]
    slices = [_Choice(gpu=gpu, mig=mig) for gpu in ordered for mig in gpu.mig]
    notes += [
        f"{gpu.name} ({gpu.uuid}) is in MIG mode without an instance: CUDA cannot use it"
        for gpu in ordered
        if gpu.mig_enabled and not gpu.mig
    ]
    value = variables.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        chosen, hidden = _without_variable(whole, slices)
    else:
        chosen, hidden = _visible([_by_number(gpu) for gpu in ordered], slices, value)
    notes += hidden
    named_by_uuid = value is not None and value.strip().startswith(("GPU-", "MIG-"))
    if doubt is not None and chosen and not named_by_uuid:
        notes.append(doubt)
    devices = tuple(
        _device(choice, f"CUDA{number}", reading.driver, ram_total, ram_available)
        for number, choice in enumerate(chosen)
    )
    return devices, tuple(notes)


def _visible(
    whole: Sequence[_Choice | None], slices: Sequence[_Choice], value: str
) -> tuple[list[_Choice], list[str]]:
    """Apply CUDA_VISIBLE_DEVICES; return the devices it leaves and notes on those it hides.

    `whole` is in CUDA's order.
    """
    # The first entry decides the kind (numbers, `GPU-` or `MIG-` UUIDs, which may be cut short). An entry
    # of another kind, an unknown one or a number out of range ends the list; an entry twice empties it. As
    # in PyTorch (torch/cuda/__init__.py, _parse_visible_devices), whose authors compared it with the
    # driver.
    chosen: list[_Choice] = []
    entries = [entry.strip() for entry in value.split(",")]
    kind = next((prefix for prefix in ("GPU-", "MIG-") if entries[0].startswith(prefix)), "")
    for entry in entries:
        choice = _by_entry(kind, entry, whole, slices)
        if choice is None:
            break
        if choice in chosen:
            return [], [f"CUDA_VISIBLE_DEVICES={value} names a GPU twice: CUDA shows none"]
        chosen.append(choice)
    if kind == "MIG-" and len(chosen) > 1:
        hidden = (
            f"CUDA gives one process one MIG instance: of CUDA_VISIBLE_DEVICES only {chosen[0].uuid} is used"
        )
        return chosen[:1], [hidden]
    total = len([choice for choice in whole if choice is not None])
    if len(chosen) < total and kind != "MIG-":
        return chosen, [f"CUDA_VISIBLE_DEVICES={value} shows {len(chosen)} of {total} NVIDIA GPUs"]
    return chosen, []


def _by_entry(
    kind: str, entry: str, whole: Sequence[_Choice | None], slices: Sequence[_Choice]
) -> _Choice | None:
    if kind:
        pool = slices if kind == "MIG-" else [choice for choice in whole if choice is not None]
        matches = [choice for choice in pool if choice.uuid.lower().startswith(entry.lower())]
        return matches[0] if entry.startswith(kind) and len(matches) == 1 else None
    number = re.match(r"\+?(\d{1,9})", entry)  # strtoul: `1gpu2` is 1
    index = int(number[1]) if number else -1
    return whole[index] if 0 <= index < len(whole) else None


def _by_number(gpu: NvidiaGpu) -> _Choice | None:
    """Return the device that a number stands for: the GPU, or in MIG mode its first instance."""
    if not gpu.mig_enabled:
        return _Choice(gpu=gpu)
    return _Choice(gpu=gpu, mig=gpu.mig[0]) if gpu.mig else None


def _without_variable(whole: list[_Choice], slices: list[_Choice]) -> tuple[list[_Choice], list[str]]:
    """Return what CUDA shows without CUDA_VISIBLE_DEVICES, and notes on what is hidden."""
    # all GPUs; if there are MIG instances, the first alone (NVIDIA MIG User Guide, CUDA Device Enumeration)
    if not slices:
        return whole, []
    if len(slices) + len(whole) == 1:
        return slices, []
    hidden = (
        "CUDA gives one process one MIG instance and no other GPU: "
        f"{slices[0].uuid} is used of {len(slices)} instances and {len(whole)} whole GPUs; "
        "CUDA_VISIBLE_DEVICES chooses another"
    )
    return slices[:1], [hidden]


def _cuda_order(gpus: Sequence[NvidiaGpu], device_order: str) -> tuple[list[NvidiaGpu], str | None]:
    """Return the GPUs as CUDA numbers them, and a note if that is a guess."""
    # FASTEST_FIRST, the default, is a rule that NVIDIA does not publish. Like GPUs come in bus order; of
    # unlike ones we guess the newer architecture first, then the larger memory.
    if device_order == "PCI_BUS_ID" or len({(gpu.name, gpu.total_bytes) for gpu in gpus}) < 2:
        return list(gpus), None

    def guess(gpu: NvidiaGpu) -> tuple[float, int]:
        capability = re.fullmatch(r"\d+\.\d+", gpu.compute_capability or "")
        return -float(capability[0]) if capability else 0.0, -(gpu.total_bytes or 0)

    return sorted(gpus, key=guess), (
        "the GPUs are unlike, and which of them CUDA calls CUDA0 is a guess until the engine lists them; "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID settles it"
    )


def _device(choice: _Choice, name: str, driver: str | None, ram_total: int, ram_available: int) -> Device:
    gpu, mig = choice.gpu, choice.mig
    total = mig.total_bytes if mig else gpu.total_bytes
    free = mig.free_bytes if mig else gpu.free_bytes
    known = (gpu.pcie_generation, gpu.pcie_width) != (None, None)
    link = Link(pcie_generation=gpu.pcie_generation, pcie_width=gpu.pcie_width) if known else None
    device = Device(
        id=name,
        backend=Backend.CUDA,
        name=(mig.name if mig else None) or gpu.name,
        total_bytes=ram_total if total is None else total,
        free_bytes=free,
        shares_host_memory=total is None,
        uuid=choice.uuid,
        link=link,
        compute_capability=gpu.compute_capability,
        driver=driver,
        display=gpu.display,
    )
    if mig is not None or not shares(device, ram_total):
        return device
    # NVML may answer for such a GPU with MemTotal and MemFree (XuehaiPan/nvitop#208); the page cache is free,
    # too, as in llama.cpp (ggml_backend_cuda_device_get_memory, prop.integrated)
    return replace(device, total_bytes=ram_total, free_bytes=ram_available, shares_host_memory=True)
