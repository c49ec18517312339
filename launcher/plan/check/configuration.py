"""Read from one llama-server command line what decides memory, and complete it by model and machine.

Defaults are those of llama-server, not of the C API (common/common.h, common/arg.cpp and
tools/server/server.cpp at 0c1e570).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.companions import Companions
from launcher.plan.memory.budget import as_reported
from launcher.plan.memory.tables import cannot_map
from launcher.plan.modes import (
    CacheType,
    FlashAttention,
    LazyMode,
    LoadMode,
    Pooling,
    SplitMode,
    TensorOverride,
)
from launcher.plan.oracle import Question
from launcher.plan.overrides import check_places, matches_any
from launcher.plan.parameters import pad_context
from launcher.plan.rope import Rope
from launcher.units import GIB

# Slots if none are asked for; they share one KV pool (server.cpp, "n_parallel is set to auto").
AUTO_SLOTS = 4
_CACHE_RAM_BYTES = 8 * GIB  # common_params.cache_ram_mib
_CHECKPOINTS = 32  # common_params.n_ctx_checkpoints
_FIT_CTX = 4096  # common_params.fit_params_min_ctx: `--fit` does not go below
# What `-c 0` makes of it (common/arg.cpp): the training context, of which fit takes nothing.
WHOLE_CONTEXT = (1 << 32) - 1
_MAX_CUDA_DEVICES = 16  # GGML_CUDA_MAX_DEVICES (ggml-cuda.h)

# Any override, even if it matches no tensor, switches pipeline parallelism off (llama_context's
# constructor).
_MATCHES_NOTHING = TensorOverride(pattern="^$", where=HOST)
_VISIBLE_DEVICES = {
    "CUDA_VISIBLE_DEVICES": Backend.CUDA,
    "HIP_VISIBLE_DEVICES": Backend.HIP,
    "ROCR_VISIBLE_DEVICES": Backend.HIP,
    "GGML_VK_VISIBLE_DEVICES": Backend.VULKAN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    # As typed: an open or a zero `ctx_size` depends on the model; hence not a ContextParameters.
    ctx_size: int | None = None  # None: not given, 0: the training context
    ctx_per_slot: int = 0  # --kv-unified-per-slot
    n_parallel: int = AUTO_SLOTS
    slots_given: bool = False  # False: as many as llama-server takes by itself
    kv_unified: bool = True
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    batch_size: int = 2048
    ubatch_size: int = 512
    flash_attn: FlashAttention = FlashAttention.AUTO
    swa_full: bool = False
    rpc: tuple[str, ...] = ()  # host:port of peers, in order
    devices: tuple[str, ...] | None = None  # None: all
    n_gpu_layers: int | None = None  # None: all
    layers_given: bool = False  # -ngl was given, so `--fit` leaves the layers alone
    tensor_split: tuple[float, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()
    split_mode: SplitMode = SplitMode.LAYER
    main_gpu: int = 0
    op_offload: bool = True
    no_host: bool = False
    repack: bool = True
    kv_offload: bool = True
    load_mode: LoadMode | None = None  # None: auto
    lazy_mode: LazyMode = LazyMode.AUTO
    locks_pages: bool = False  # of mapped files
    cache_ram_bytes: int | None = _CACHE_RAM_BYTES  # None: no limit
    cache_ram_given: bool = False  # False: llama-server's default
    ctx_checkpoints: int = _CHECKPOINTS
    cache_idle_slots: bool = True
    fit: bool = True
    fit_ctx: int = _FIT_CTX
    fit_targets: tuple[int, ...] = ()  # bytes that `--fit` leaves free, by device
    embedding: bool = False
    pooling: Pooling | None = None
    rope: Rope = Rope()


def pool_size(configuration: Configuration, n_ctx_train: int) -> int:
    """Return the size of the KV pool in tokens, padded as in llama_context.

    Raises UsageError if neither the command line nor the model says a context.
    """
    slots = configuration.n_parallel
    size = configuration.ctx_size or 0
    if size == 0 and configuration.ctx_per_slot and configuration.ctx_size is None:
        size = configuration.ctx_per_slot * slots
    if size == 0:
        # With --fit each slot that does not share gets the training context (common/fit.cpp, step 1). Without
        # it, and with --split-mode tensor, which fit declines, all slots together get one.
        fits = configuration.fit and configuration.split_mode is not SplitMode.TENSOR
        each = fits and not configuration.kv_unified
        size = n_ctx_train * (slots if each else 1)
    if size == 0:
        raise UsageError("this model names no training context, and -c is not given", hint="-c 32768")
    total = pad_context(size)
    return total if configuration.kv_unified else pad_context(total // slots) * slots


def used_devices(configuration: Configuration, devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices llama-server would use, in its order.

    As llama_prepare_model_devices (src/llama.cpp). Raises UsageError for a device that is not there.
    """
    by_id = {device.id: device for device in devices}
    if configuration.devices is not None:
        for name in configuration.devices:
            if name not in by_id:
                raise UsageError(
                    f"--device names {name}, and this machine has {_list_names(devices)}",
                    hint="launcher probe",
                )
        used = tuple(by_id[name] for name in configuration.devices)
    else:
        # Integrated devices are used only if there is no other in this machine, or under --split-mode tensor.
        discrete = tuple(device for device in devices if not device.shares_host_memory)
        has_own = any(device.peer is None for device in discrete)
        used = discrete if has_own and configuration.split_mode is not SplitMode.TENSOR else tuple(devices)
    if configuration.split_mode is SplitMode.NONE and used:
        if configuration.main_gpu >= len(used):
            raise UsageError(
                f"--main-gpu {configuration.main_gpu} is beyond the {len(used)} devices in use",
                hint="count them from 0",
            )
        used = (used[configuration.main_gpu],) if configuration.main_gpu >= 0 else ()
    return used


def settled_companions(
    configuration: Configuration, companions: Companions, devices: Sequence[Device]
) -> Companions:
    """Return the companions with the devices that they have under `--split-mode none`."""
    # It chooses one of a draft model's devices, too; a projector goes to the first device whatever --main-gpu
    # says (common_params_parse_ex, common/arg.cpp; clip_ctx, tools/mtmd/clip.cpp).
    if configuration.split_mode is not SplitMode.NONE:
        return companions
    draft, projector = companions.draft, companions.projector
    if projector is not None and projector.request.where is None:
        used = used_devices(replace(configuration, split_mode=SplitMode.LAYER), devices)
        where = used[0].id if used else HOST
        projector = replace(projector, request=replace(projector.request, where=where))
    if draft is not None and draft.request.devices is not None and len(draft.request.devices) > 1:
        main = used_devices(replace(configuration, devices=draft.request.devices), devices)
        draft = replace(draft, request=replace(draft.request, devices=tuple(device.id for device in main)))
    return replace(companions, draft=draft, projector=projector)


def visible_devices(devices: Sequence[Device], variables: Mapping[str, str]) -> tuple[Device, ...]:
    """Return the devices that llama-server sees under these variables, numbered anew.

    `CUDA_VISIBLE_DEVICES=1,0` and its like choose devices; `GGML_CUDA_DEVICES=4` makes 4 of all cards.
    """
    visible = tuple(devices)
    for variable, backend in _VISIBLE_DEVICES.items():
        if variable in variables:
            visible = _choose_listed(visible, backend, variables[variable])
    count = variables.get("GGML_CUDA_DEVICES", "")
    if count.isdecimal() and int(count):
        for backend in (Backend.CUDA, Backend.HIP):
            visible = _divide_cards(visible, backend, min(int(count), _MAX_CUDA_DEVICES))
    return visible


def question_of_configuration(
    configuration: Configuration, model: str, devices: tuple[Device, ...], pool: int, names: Sequence[str]
) -> Question:
    """Return the simulator's question. Raises UsageError for an override to a device that is not used."""
    # `devices` are the used ones, `names` the model's tensors.
    overrides = _effective_overrides(configuration.overrides, devices, names)
    split_mode = configuration.split_mode
    if split_mode is SplitMode.NONE:
        split_mode = SplitMode.LAYER  # only one device is left
    split = configuration.tensor_split[: len(devices)]
    return Question(
        model=model,
        devices=tuple(map(as_reported, devices)),
        ctx_size=pool,
        n_parallel=configuration.n_parallel,
        kv_unified=configuration.kv_unified,
        cache_type_k=configuration.cache_type_k,
        cache_type_v=configuration.cache_type_v,
        batch_size=configuration.batch_size,
        ubatch_size=configuration.ubatch_size,
        flash_attn=configuration.flash_attn,
        swa_full=configuration.swa_full,
        overrides=overrides,
        tensor_split=split if any(split) else (),
        n_gpu_layers=configuration.n_gpu_layers,
        split_mode=split_mode,
        op_offload=configuration.op_offload,
        no_host=configuration.no_host,
        repack=configuration.repack,
        kv_offload=configuration.kv_offload,
        load_mode=settled_load_mode(configuration, devices),
        lazy_mode=configuration.lazy_mode,
        locks_pages=configuration.locks_pages,
        embedding=configuration.embedding,
        pooling=configuration.pooling,
    )


def refusal_of(configuration: Configuration, devices: Sequence[Device]) -> str | None:
    """Return what llama.cpp refuses before it looks at the model."""
    # No backend but SYCL has split buffers any more (src/llama-model.cpp, make_gpu_buft_list).
    without = [device.id for device in devices if device.peer or device.backend is not Backend.SYCL]
    if configuration.split_mode is not SplitMode.ROW or not without:
        return None
    return f"device {without[0]} does not support split buffers (--split-mode row)"


def settled_load_mode(configuration: Configuration, devices: Sequence[Device]) -> LoadMode:
    """Return the load mode; auto (llama_model_base::load_tensors) maps the file, unless a device cannot."""
    if configuration.load_mode is not None:
        return configuration.load_mode
    return LoadMode.NONE if cannot_map(devices) else LoadMode.MMAP


def _effective_overrides(
    overrides: Sequence[TensorOverride], devices: Sequence[Device], names: Sequence[str]
) -> tuple[TensorOverride, ...]:
    places = {device.buffer_name: device.id for device in devices}
    check_places(overrides, tuple(places))
    matching = tuple(
        replace(override, where=places.get(override.where, override.where))
        for override in overrides
        if matches_any(override, names)
    )
    return matching or ((_MATCHES_NOTHING,) if overrides else ())


def _choose_listed(devices: tuple[Device, ...], backend: Backend, listed: str) -> tuple[Device, ...]:
    """Return the backend's devices that are listed by index or UUID, numbered anew, before the others."""
    candidates = [device for device in devices if device.backend is backend]
    chosen: list[Device] = []
    for word in filter(None, (part.strip() for part in listed.split(","))):
        device = next((entry for entry in candidates if entry.uuid and entry.uuid.startswith(word)), None)
        if word.isdecimal() and int(word) < len(candidates):
            device = candidates[int(word)]
        if device is None:
            break  # as CUDA does: an entry that names nothing ends the list
        chosen.append(device)
    renamed = [
        replace(device, id=device.id.rstrip("0123456789") + str(index)) for index, device in enumerate(chosen)
    ]
    return (*renamed, *(device for device in devices if device.backend is not backend))


def _divide_cards(devices: tuple[Device, ...], backend: Backend, count: int) -> tuple[Device, ...]:
    """Return `count` virtual devices, in turn on each card, which share its memory evenly.

    As ggml_cuda_init and ggml_backend_cuda_device_get_memory (ggml-cuda.cu); HIP is the same code.
    """
    cards = [device for device in devices if device.backend is backend]
    if not cards or count == len(cards):
        return devices
    virtual = []
    for index in range(count):
        card = cards[index % len(cards)]
        sharers = len(range(index % len(cards), count, len(cards)))
        free = None if card.free_bytes is None else card.free_bytes // sharers
        virtual.append(
            replace(
                card,
                id=card.id.rstrip("0123456789") + str(index),
                total_bytes=card.total_bytes // sharers,
                free_bytes=free,
                uuid=card.uuid if sharers == 1 else None,
            )
        )
    return (*virtual, *(device for device in devices if device.backend is not backend))


def _list_names(devices: Sequence[Device]) -> str:
    return ", ".join(device.id for device in devices) or "no device"
