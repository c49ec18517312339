"""One simulation: load a model's header, reserve its graphs on virtual memory, and read off the sizes.

llama.cpp's own no_alloc pass reserves differently from a real start: ggml_backend_sched_reserve_size resets
the scheduler first and so forgets the assignments the graph was built with, and only one graph is measured.
Therefore the reservations of llama_context::sched_reserve are repeated here for real, on virtual buffers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import MAX_DEVICES, Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import FlashAttention, LazyMode, Pooling, SplitMode
from launcher.plan.oracle import Answer, BufferRow, HostTensor, Question, Refusal
from launcher.simulate.abi.binding import Binding
from launcher.simulate.abi.layout import BufferTypeOverride
from launcher.simulate.abi.llama_api import LOG_CALLBACK
from launcher.simulate.backends.traits import traits_of
from launcher.simulate.devices import VirtualDevices
from launcher.simulate.log import LoadLog
from launcher.simulate.meta import MetaDevice
from launcher.simulate.rows import assemble_rows

# enum llama_split_mode (include/llama.h)
_SPLIT_MODES = {SplitMode.NONE: 0, SplitMode.LAYER: 1, SplitMode.TENSOR: 3}
# enum llama_flash_attn_type (include/llama.h)
FLASH_ATTENTION = {FlashAttention.AUTO: -1, FlashAttention.OFF: 0, FlashAttention.ON: 1}
# enum llama_lazy_mode (include/llama.h)
LAZY_MODES = {LazyMode.OFF: 0, LazyMode.AUTO: 1, LazyMode.ON: 2}
MTP_CONTEXT = 1  # LLAMA_CONTEXT_TYPE_MTP (include/llama.h)
# enum llama_pooling_type (include/llama.h)
_POOLING = {None: -1, Pooling.NONE: 0, Pooling.MEAN: 1, Pooling.CLS: 2, Pooling.LAST: 3, Pooling.RANK: 4}
_ALL_LAYERS = -2  # llama-server's `-ngl all` (common/arg.cpp); any negative number is all of them
# architectures whose last reservation is for one sequence (llama_context::sched_reserve)
_ONE_SEQUENCE_PASS = ("kimi-linear", "minimax-01")

_Result = TypeVar("_Result")


class Simulator:
    """llama.cpp with virtual devices; runs one simulation at a time."""

    def __init__(self, binding: Binding, virtual: VirtualDevices) -> None:
        self.binding = binding
        self.virtual = virtual
        self.log = LoadLog()
        self._log_callback = LOG_CALLBACK(self.log.add)
        binding.llama.llama_log_set(self._log_callback, None)
        binding.llama.llama_backend_init()

    def simulate(self, question: Question, *, like_fit: bool = False) -> Answer | Refusal:
        """Return what llama-server would allocate, or why that cannot be known.

        `like_fit` gives llama-fit-params' figures, with the surplus of llama.cpp's no_alloc pass.
        """
        if refusal := _refuse_split_mode(question, like_fit=like_fit):
            return refusal
        if refusal := refuse_override(question):
            return refusal
        return self.guarded(lambda: self._simulate(question, like_fit=like_fit), reserving=like_fit)

    def guarded(self, simulation: Callable[[], _Result], *, reserving: bool = False) -> _Result | Refusal:
        """Run one simulation from a clean state. Raises what a callback raised in it."""
        self.log.clear()
        self.virtual.faults.clear()
        for answers in self.virtual.remembered:
            answers.clear()
        self.virtual.reserving = reserving
        try:
            return simulation()
        except MemoryError as error:
            # without words it is Python's: the worker's memory is used up, which says nothing about the model
            reason = str(error) or "the simulation ran out of memory"
            return Refusal(reason=reason, model_refused=bool(str(error)))
        finally:
            self.virtual.reserving = False
            if self.virtual.faults:
                raise self.virtual.faults[0]

    def _simulate(self, question: Question, *, like_fit: bool) -> Answer | Refusal:
        with self.loaded(question) as model:
            if not model:
                return self.refusal()
            meta = None
            if question.split_mode is SplitMode.TENSOR:
                meta = MetaDevice(self.binding, self.virtual, model, question.devices)
            # recurrent states are allocated in spite of no_alloc
            with (
                self.virtual.counting() as states,
                self.opened(model, context_parameters(self.binding.llama, question)) as context,
            ):
                if not context:
                    return self.refusal()
                return self._read(_LoadedModel(question, model, context, meta, states), like_fit=like_fit)

    @contextmanager
    def loaded(self, question: Question) -> Iterator[int | None]:
        """Load the model for the length of the block; None if llama.cpp refuses it."""
        parameters = ModelParameters(self.binding, self.virtual, question)
        llama = self.binding.llama
        model = llama.llama_model_load_from_file(os.fsencode(question.model), parameters.struct)
        try:
            yield model
        finally:
            if model:
                llama.llama_model_free(model)

    @contextmanager
    def opened(self, model: int, parameters: Any) -> Iterator[int | None]:
        """Open a context of the model for the length of the block; None if llama.cpp refuses it."""
        llama = self.binding.llama
        context = llama.llama_init_from_model(model, parameters)
        try:
            yield context
        finally:
            if context:
                llama.llama_free(context)

    def refusal(self) -> Refusal:
        return Refusal(reason=f"{self.binding.engine}: {self.log.error}", model_refused=True)

    def _read(self, loaded: _LoadedModel, *, like_fit: bool) -> Answer:
        question, model, context = loaded.question, loaded.model, loaded.context
        breakdown = self.binding.breakdown(context)
        if like_fit:
            splits = (0, 0)
            compute = {name: entry.compute for name, entry in breakdown.items()}
        else:
            splits = self.reserve(loaded.model, loaded.context, question.n_parallel, loaded.meta)
            compute = self.binding.compute_bytes(context)
        partial_sums: tuple[BufferRow, ...] = ()
        if loaded.meta is not None:
            breakdown, compute, partial_sums = loaded.meta.divide(breakdown, compute, loaded.states, self.log)
        n_train: int = self.binding.llama.llama_model_n_ctx_train(model)
        n_slot: int = self.binding.llama.llama_n_ctx_seq(context)
        return Answer(
            rows=(*assemble_rows(question, breakdown, compute, self.log), *partial_sums),
            slot_ctx_size=min(n_slot, n_train),
            flash_attn=self._uses_flash_attention(question),
            sched_copies=self.binding.sched_copies(context),
            graph_splits=splits,
            host_tensors=tuple(self._host_tensors(loaded)),
            engine=self.binding.engine,
        )

    def reserve(
        self, model: int, context: int, n_seqs: int, meta: MetaDevice | None = None
    ) -> tuple[int, int]:
        """Repeat the reservations of llama_context::sched_reserve; return splits of prompt, generation."""
        llama = self.binding.llama
        n_tokens = min(llama.llama_n_ctx(context), llama.llama_n_ubatch(context))
        n_outputs = min(n_tokens, self.log.n_outputs_max)
        self.virtual.reserving = True
        graph, prompt = self.binding.reserve(context, n_tokens, n_seqs, n_outputs)
        if meta is not None:
            meta.read_graph(graph)
        reserved = self.binding.compute_bytes(context)
        _, generation = self.binding.reserve(context, n_seqs, n_seqs, n_seqs)
        last = 1 if self._architecture(model) in _ONE_SEQUENCE_PASS else n_seqs
        if last != n_seqs or self.binding.compute_bytes(context) != reserved:
            self.binding.reserve(context, n_tokens, last, n_outputs)  # else it would change nothing
        return prompt, generation

    def _architecture(self, model: Any) -> str:
        value = ctypes.create_string_buffer(64)
        self.binding.llama.llama_model_meta_val_str(model, b"general.architecture", value, len(value))
        return value.value.decode(errors="replace")

    def _uses_flash_attention(self, question: Question) -> bool:
        if self.log.flash_attention is not None:
            return self.log.flash_attention
        return question.flash_attn is not FlashAttention.OFF

    def _host_tensors(self, loaded: _LoadedModel) -> list[HostTensor]:
        """Return weights of a device's layers that went to the host although no override asked for it."""
        question, meta = loaded.question, loaded.meta
        owners: dict[str, tuple[Device, ...]] = {device.id: (device,) for device in question.devices}
        if meta is not None:
            owners = {meta.name: question.devices}
        tensors = tuple(self.binding.tensors(loaded.model))
        buffers = {device.buffer_name for device in question.devices} | set(owners)
        on_devices = {tensor.name for tensor in tensors if tensor.buffer_type in buffers}
        seen: set[str] = set()  # a tied embedding comes twice, the second time as the output layer
        moved = []
        for tensor in tensors:
            holders = owners.get(self.log.layer_device(tensor.name, is_output=tensor.name in seen) or "")
            seen.add(tensor.name)
            if holders is None or tensor.name in on_devices or tensor.name in self.log.overridden:
                continue
            type_name = GgmlType(tensor.type).name
            lacking = [holder for holder in holders if tensor.type not in traits_of(holder).matrix_types]
            why = (
                f"has no kernel for {type_name}" if lacking else f"cannot hold or use this {type_name} tensor"
            )
            device = (lacking or holders)[0]
            moved.append(HostTensor(name=tensor.name, reason=f"{device.id} {why}"))
        return moved


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    """A loaded model and its context."""

    question: Question
    model: Any  # address
    context: Any  # address
    meta: MetaDevice | None
    states: Mapping[str, int]  # bytes of recurrent states by device


def _refuse_split_mode(question: Question, *, like_fit: bool) -> Refusal | None:
    """Return a Refusal if the question's split mode cannot be simulated."""
    remote = next((device for device in question.devices if device.peer is not None), None)
    if remote is not None and question.split_mode not in {SplitMode.LAYER, SplitMode.NONE}:
        reason = f"--split-mode {question.split_mode} with {remote.id}, an RPC device, cannot be simulated"
        return Refusal(reason=reason, model_refused=False, unavailable=True)
    if question.split_mode is SplitMode.ROW:
        without = next((device for device in question.devices if device.backend is not Backend.SYCL), None)
        if without is None:
            reason = "--split-mode row cannot be simulated: SYCL's split buffers span devices"
            return Refusal(reason=reason, model_refused=False, unavailable=True)
        reason = f"device {without.id} does not support split buffers (--split-mode row)"
        return Refusal(reason=reason, model_refused=True)
    if like_fit and question.split_mode is SplitMode.TENSOR:
        reason = "llama_params_fit is not implemented for SPLIT_MODE_TENSOR"
        return Refusal(reason=reason, model_refused=False, unavailable=True)
    return None


def refuse_override(question: Question) -> Refusal | None:
    """Return a Refusal if an override names a device that is not used."""
    places = {HOST, *(device.id for device in question.devices)}
    for override in question.overrides:
        if override.where not in places:
            reason = f"a tensor override names {override.where}, which is not among the devices"
            return Refusal(reason=reason, model_refused=False)
    return None


class ModelParameters:
    """llama_model_params as common_model_params_to_llama (common/common.cpp) sets them, and their arrays."""

    def __init__(self, binding: Binding, virtual: VirtualDevices, question: Question) -> None:
        self.struct = struct = binding.llama.llama_model_default_params()
        buffer_types = {HOST: binding.base.ggml_backend_cpu_buffer_type()} | virtual.buffer_types
        addresses = [virtual.addresses[device.id] for device in question.devices]
        self._devices = (ctypes.c_void_p * (len(addresses) + 1))(*addresses)
        self.overrides = (BufferTypeOverride * (len(question.overrides) + 1))()
        for record, override in zip(self.overrides, question.overrides, strict=False):
            record.pattern, record.buft = override.pattern.encode(), buffer_types[override.where]
        self._split = (ctypes.c_float * MAX_DEVICES)(*question.tensor_split)
        struct.devices = ctypes.addressof(self._devices)
        struct.tensor_buft_overrides = ctypes.addressof(self.overrides) if question.overrides else None
        struct.tensor_split = ctypes.addressof(self._split)
        struct.n_gpu_layers = _ALL_LAYERS if question.n_gpu_layers is None else question.n_gpu_layers
        struct.split_mode = _SPLIT_MODES[question.split_mode]
        struct.main_gpu = question.main_gpu
        # LLAMA_LOAD_MODE_NONE: no_alloc refuses to map (llama_model_base::load_tensors)
        struct.load_mode = 0
        if hasattr(struct, "lazy_mode"):
            struct.lazy_mode = LAZY_MODES[LazyMode.OFF if question.locks_pages else question.lazy_mode]
        struct.no_host = question.no_host
        struct.use_extra_bufts = question.repack
        struct.load_mtp = question.load_mtp
        struct.no_alloc = True


def context_parameters(llama: Any, question: Question) -> Any:
    """Return llama_context_params as common_context_params_to_llama (common/common.cpp) sets them."""
    struct = llama.llama_context_default_params()
    struct.n_ctx = question.ctx_size
    struct.n_batch = question.batch_size
    struct.n_ubatch = question.ubatch_size
    struct.n_seq_max = question.n_parallel
    struct.flash_attn_type = FLASH_ATTENTION[question.flash_attn]
    struct.type_k = GgmlType[question.cache_type_k.upper()]
    struct.type_v = GgmlType[question.cache_type_v.upper()]
    struct.offload_kqv = question.kv_offload
    struct.op_offload = question.op_offload
    struct.swa_full = question.swa_full
    struct.n_rs_seq = question.n_rs_seq
    struct.kv_unified = question.kv_unified
    struct.embeddings = question.embedding
    struct.pooling_type = _POOLING[question.pooling]
    if question.n_outputs is None and question.all_outputs:
        struct.n_outputs_max, struct.n_outputs_max_per_seq = question.batch_size, 1
    elif question.n_outputs is None:
        # rows of logits: server_output_limits (tools/server/server-context.cpp)
        rows = 1 + question.n_draft
        struct.n_outputs_max = min(question.batch_size, question.n_parallel * rows)
        struct.n_outputs_max_per_seq = min(question.batch_size, rows)
    else:
        struct.n_outputs_max = question.n_outputs
    return struct
