"""Read NVML into plain records. The only module that touches the driver's library; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from launcher.machine.probe.nvidia import MigInstance, NvidiaGpu, NvidiaReading

_T = TypeVar("_T")

# version and size of nvmlMemory_v2, which tells the driver's reserve apart from the memory in use
_RESERVED_V2 = 0x02000028


def read_nvidia() -> NvidiaReading:
    """Read all GPUs; no GPUs and no note without a driver. Never raises."""
    import pynvml  # noqa: PLC0415 loaded only when something is probed

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return NvidiaReading()
    except pynvml.NVMLError as error:
        return NvidiaReading(notes=(_error_note(pynvml, error),))
    try:
        driver = _or_none(pynvml, pynvml.nvmlSystemGetDriverVersion)
        gpus: list[NvidiaGpu] = []
        notes: list[str] = []
        for index in range(_or_none(pynvml, pynvml.nvmlDeviceGetCount) or 0):
            try:
                gpus.append(_read_gpu(pynvml, index))
            except pynvml.NVMLError as error:
                notes.append(f"NVIDIA GPU {index} cannot be read ({error}): it is left out")
        return NvidiaReading(driver=driver, gpus=tuple(gpus), notes=tuple(notes))
    finally:
        _or_none(pynvml, pynvml.nvmlShutdown)


def memory_in_use(nvml: Any | None, uuid: str) -> int | None:
    """Return the bytes in use on a GPU or MIG instance, without the driver's reserve; None if not known.

    `nvml` is None if NVML is not open. Never raises.
    """
    if nvml is None:
        return None
    handle = _or_none(nvml, nvml.nvmlDeviceGetHandleByUUID, uuid)
    total, reserved, free = (None, None, None) if handle is None else _memory(nvml, handle)
    return None if total is None or free is None else max(0, total - free - (reserved or 0))


def _error_note(nvml: Any, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
        return (
            "NVIDIA GPUs are not seen: the driver's library is of another version than the loaded kernel "
            "module, as after an upgrade; reboot, or "
            "`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`"
        )
    if isinstance(error, nvml.NVMLError_NoPermission):
        return (
            "NVIDIA GPUs are not seen: this user may not open /dev/nvidia*; "
            "add it to the group that owns them"
        )
    return f"NVIDIA GPUs are not seen: NVML answers {error}"


def _read_gpu(nvml: Any, index: int) -> NvidiaGpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    total, reserved, free = _memory(nvml, handle)
    capability = _or_none(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    pci = _or_none(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    mig_mode = _or_none(nvml, nvml.nvmlDeviceGetMigMode, handle)
    display = _or_none(nvml, nvml.nvmlDeviceGetDisplayActive, handle)
    return NvidiaGpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        bus_id=None if pci is None else _text(pci.busId).lower(),
        total_bytes=total,
        reserved_bytes=reserved,
        free_bytes=free,
        # the generation drops while the card idles, so the most that card and slot can do; the lanes do
        # not, and their maximum is the card's alone
        pcie_generation=_or_none(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_width=_or_none(nvml, nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        display=None if display is None else bool(display),
        mig_enabled=mig_mode is not None and mig_mode[0] == 1,
        mig=_read_mig(nvml, handle) if mig_mode is not None and mig_mode[0] == 1 else (),
    )


def _read_mig(nvml: Any, handle: Any) -> tuple[MigInstance, ...]:
    instances = []
    for index in range(_or_none(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        instance = _or_none(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if instance is None:  # numbers without an instance are gaps, not the end
            continue
        total, _, free = _memory(nvml, instance)
        uuid = _or_none(nvml, nvml.nvmlDeviceGetUUID, instance)
        name = _or_none(nvml, nvml.nvmlDeviceGetName, instance)
        if uuid is not None and total is not None:
            instances.append(MigInstance(uuid=uuid, name=name, total_bytes=total, free_bytes=free))
    return tuple(instances)


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None, int | None]:
    """Return total, reserved and free bytes, None for what is not known."""
    # drivers before 510 know no reserve; GPUs that share the host's memory (GB10, Jetson) know none of the
    # three
    memory = _or_none(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, _RESERVED_V2)
    if memory is not None:
        return int(memory.total), int(memory.reserved), int(memory.free)
    memory = _or_none(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return (None, None, None) if memory is None else (int(memory.total), None, int(memory.free))


def _or_none(nvml: Any, call: Callable[..., _T], *arguments: Any) -> _T | None:
    try:
        return call(*arguments)
    except (nvml.NVMLError, UnicodeDecodeError):  # this driver or card does not know it
        return None


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
