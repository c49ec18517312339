"""What one llama-server command line settles about memory, and what of it only a model and a machine can settle.

Defaults are llama-server's (common/common.h, common/arg.cpp, tools/server/server.cpp at 0c1e570), not the C API's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.memory.companion_memory import Companions
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, SplitMode, TensorOverride
from launcher.plan.oracle import Question
from launcher.plan.overrides import check_places, matches_any
from launcher.plan.parameters import pad_context
from launcher.plan.rope import Rope
from launcher.units import GIB

AUTO_SLOTS = 4
"""Slots of a server that is not told how many; they share one KV pool (server.cpp, "n_parallel is set to auto")."""
CACHE_RAM_BYTES = 8 * GIB
"""common_params.cache_ram_mib."""
CHECKPOINTS = 32
"""common_params.n_ctx_checkpoints."""
FIT_CTX = 4096
"""common_params.fit_params_min_ctx: a context that `--fit` does not go below."""

_NOTHING = TensorOverride(pattern="^$", where=HOST)
"""Matches no tensor. Overrides switch pipeline parallelism off by being there (llama_context's constructor)."""
_CANNOT_MAP = (Backend.CUDA, Backend.HIP, Backend.VULKAN)
"""Backends whose integrated devices lack `mmap_support` (ggml-cuda.cu, ggml-vulkan.cpp, get_props)."""
_VISIBLE = {
    "CUDA_VISIBLE_DEVICES": Backend.CUDA,
    "HIP_VISIBLE_DEVICES": Backend.HIP,
    "ROCR_VISIBLE_DEVICES": Backend.HIP,
    "GGML_VK_VISIBLE_DEVICES": Backend.VULKAN,
}


_MAX_CUDA_DEVICES = 16
"""GGML_CUDA_MAX_DEVICES (ggml-cuda.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """`ctx_size` None is unset, 0 asks for the whole training context; `ctx_per_slot` is
    `--kv-unified-per-slot`. `devices` None are all there are, () none. `n_gpu_layers` None is all layers,
    `layers_given` says that somebody said so. `load_mode` None is auto. `cache_ram_bytes` None is without
    limit, and `cache_ram_given` False llama-server's own limit. `all_outputs` reserves logits for the whole
    batch (embeddings)."""

    # As typed: an open or a zero `ctx_size` depends on the model; hence not a ContextParameters.
    ctx_size: int | None = None
    ctx_per_slot: int = 0
    n_parallel: int = AUTO_SLOTS
    kv_unified: bool = True
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    batch_size: int = 2048
    ubatch_size: int = 512
    flash_attn: FlashAttention = FlashAttention.AUTO
    swa_full: bool = False
    devices: tuple[str, ...] | None = None
    n_gpu_layers: int | None = None
    layers_given: bool = False
    tensor_split: tuple[float, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()
    split_mode: SplitMode = SplitMode.LAYER
    main_gpu: int = 0
    op_offload: bool = True
    no_host: bool = False
    kv_offload: bool = True
    load_mode: LoadMode | None = None
    cache_ram_bytes: int | None = CACHE_RAM_BYTES
    cache_ram_given: bool = False
    ctx_checkpoints: int = CHECKPOINTS
    fit: bool = True
    fit_ctx: int = FIT_CTX
    all_outputs: bool = False
    rope: Rope = Rope()


def pool_size(configuration: Configuration, n_ctx_train: int) -> int:
    """The KV pool in tokens, as llama_context pads it. With `--fit` on, an unset context of slots that do not share
    is the training context for each of them (common/fit.cpp, step 1); with it off, and with `--split-mode tensor`, which fit
    declines, for all of them together."""
    slots = configuration.n_parallel
    wanted = configuration.ctx_size or 0
    if wanted == 0 and configuration.ctx_per_slot and configuration.ctx_size is None:
        wanted = configuration.ctx_per_slot * slots
    if wanted == 0:
        fits = configuration.fit and configuration.split_mode is not SplitMode.TENSOR
        apart = fits and not configuration.kv_unified
        wanted = n_ctx_train * (slots if apart else 1)
    if wanted == 0:
        raise UsageError("this model names no training context, and -c is not given", hint="add -c 32768")
    total = pad_context(wanted)
    return total if configuration.kv_unified else pad_context(total // slots) * slots


def used_devices(configuration: Configuration, devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices llama-server would use, in its order (src/llama.cpp, llama_prepare_model_devices): those that are
    named; else all, integrated ones only where there is no other or under `--split-mode tensor`; one of them under
    `--split-mode none`.

    Raises UsageError for a device that is not there.
    """
    there = {device.id: device for device in devices}
    if configuration.devices is not None:
        for name in configuration.devices:
            if name not in there:
                raise UsageError(
                    f"--device names {name}, and this machine has {_names(devices)}",
                    hint="launcher probe shows the devices; --machine names another machine",
                )
        used = tuple(there[name] for name in configuration.devices)
    else:
        own = tuple(device for device in devices if not device.shares_host_memory)
        used = own if own and configuration.split_mode is not SplitMode.TENSOR else tuple(devices)
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
    """The companions with the devices that they have under `--split-mode none`. That chooses one of a draft model's, too;
    a projector goes to the first device whatever `--main-gpu` says (common_params_parse_ex, common/arg.cpp; clip_ctx,
    tools/mtmd/clip.cpp)."""
    if configuration.split_mode is not SplitMode.NONE:
        return companions
    draft, projector = companions.draft, companions.projector
    if projector is not None and projector.request.where is None:
        every = used_devices(replace(configuration, split_mode=SplitMode.LAYER), devices)
        where = every[0].id if every else HOST
        projector = replace(projector, request=replace(projector.request, where=where))
    if draft is not None and draft.request.devices is not None and len(draft.request.devices) > 1:
        one = used_devices(replace(configuration, devices=draft.request.devices), devices)
        draft = replace(draft, request=replace(draft.request, devices=tuple(device.id for device in one)))
    return replace(companions, draft=draft, projector=projector)


def visible_devices(devices: Sequence[Device], variables: Mapping[str, str]) -> tuple[Device, ...]:
    """The devices under `CUDA_VISIBLE_DEVICES=1,0` and its like before the command, numbered anew, and as many of them
    as `GGML_CUDA_DEVICES=4` makes of the cards that are there."""
    seen = tuple(devices)
    for variable, backend in _VISIBLE.items():
        if variable in variables:
            seen = _chosen(seen, backend, variables[variable])
    wanted = variables.get("GGML_CUDA_DEVICES", "")
    if wanted.isdecimal() and int(wanted):
        for backend in (Backend.CUDA, Backend.HIP):
            seen = _emulated(seen, backend, min(int(wanted), _MAX_CUDA_DEVICES))
    return seen


def question_of_configuration(
    configuration: Configuration, model: str, devices: tuple[Device, ...], pool: int, names: Sequence[str]
) -> Question:
    """The simulator's question. `devices` are the used ones, `names` the model's tensors: overrides that find none of
    them only keep their effect on pipelining.

    Raises UsageError for an override to a device that is not used.
    """
    overrides = _effective(configuration.overrides, devices, names)
    split_mode = configuration.split_mode
    if split_mode is SplitMode.NONE:
        split_mode = SplitMode.LAYER  # the one device that is left
    split = configuration.tensor_split[: len(devices)]
    return Question(
        model=model,
        devices=devices,
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
        kv_offload=configuration.kv_offload,
        load_mode=settled_load_mode(configuration, devices),
        n_outputs=configuration.batch_size if configuration.all_outputs else None,
    )


def refusal_of(configuration: Configuration, devices: Sequence[Device]) -> str | None:
    """What llama.cpp says before it looks at the model: no backend but SYCL has split buffers left
    (src/llama-model.cpp, make_gpu_buft_list)."""
    without = next((device.id for device in devices if device.backend is not Backend.SYCL), None)
    if configuration.split_mode is not SplitMode.ROW or without is None:
        return None
    return f"device {without} does not support split buffers (--split-mode row)"


def settled_load_mode(configuration: Configuration, devices: Sequence[Device]) -> LoadMode:
    """Auto maps the file, unless a device cannot (llama_model_base::load_tensors, LLAMA_LOAD_MODE_AUTO)."""
    if configuration.load_mode is not None:
        return configuration.load_mode
    cannot = any(device.shares_host_memory and device.backend in _CANNOT_MAP for device in devices)
    return LoadMode.NONE if cannot else LoadMode.MMAP


def _effective(
    overrides: Sequence[TensorOverride], devices: Sequence[Device], names: Sequence[str]
) -> tuple[TensorOverride, ...]:
    check_places(overrides, [device.id for device in devices])
    found = tuple(override for override in overrides if matches_any(override, names))
    return found or ((_NOTHING,) if overrides else ())


def _chosen(devices: tuple[Device, ...], backend: Backend, listed: str) -> tuple[Device, ...]:
    """Indices or UUIDs; as CUDA does, everything after an entry that names nothing is left out."""
    mine = [device for device in devices if device.backend is backend]
    chosen: list[Device] = []
    for word in filter(None, (part.strip() for part in listed.split(","))):
        found = next((device for device in mine if device.uuid and device.uuid.startswith(word)), None)
        if word.isdecimal() and int(word) < len(mine):
            found = mine[int(word)]
        if found is None:
            break
        chosen.append(found)
    renamed = [
        replace(device, id=device.id.rstrip("0123456789") + str(index)) for index, device in enumerate(chosen)
    ]
    return (*renamed, *(device for device in devices if device.backend is not backend))


def _emulated(devices: tuple[Device, ...], backend: Backend, count: int) -> tuple[Device, ...]:
    """Virtual devices in turn on each card, whose memory those on it share evenly (ggml_cuda_init and
    ggml_backend_cuda_device_get_memory, ggml-cuda.cu; HIP is the same code)."""
    cards = [device for device in devices if device.backend is backend]
    if not cards or count == len(cards):
        return devices
    made = []
    for index in range(count):
        card = cards[index % len(cards)]
        sharers = len(range(index % len(cards), count, len(cards)))
        free = None if card.free_bytes is None else card.free_bytes // sharers
        made.append(
            replace(
                card,
                id=card.id.rstrip("0123456789") + str(index),
                total_bytes=card.total_bytes // sharers,
                free_bytes=free,
                uuid=card.uuid if sharers == 1 else None,
            )
        )
    return (*made, *(device for device in devices if device.backend is not backend))


def _names(devices: Sequence[Device]) -> str:
    return ", ".join(device.id for device in devices) or "no device"
