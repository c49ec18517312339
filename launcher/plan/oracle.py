"""Ask a simulator of llama.cpp's allocator (`simulate`). Pure.

Where it cannot answer, `memory.estimate` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from launcher.machine.machine import Device
from launcher.plan.modes import FlashAttention, LazyMode, LoadMode, SplitMode, TensorOverride
from launcher.plan.parameters import ContextParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(ContextParameters):
    """All that decides how much memory llama-server takes."""

    model: str  # path of the first shard, hollow or real
    devices: tuple[Device, ...]  # those to use, in llama.cpp's order; empty for CPU only
    kv_unified: bool = True  # every slot may use the whole KV pool
    swa_full: bool = False
    overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()  # empty: llama.cpp splits by free memory
    n_gpu_layers: int | None = None  # None: all layers
    main_gpu: int = 0
    split_mode: SplitMode = SplitMode.LAYER
    no_host: bool = False
    repack: bool = True  # the CPU may keep weights in layouts of its own, which are no pages of the file
    kv_offload: bool = True
    load_mode: LoadMode = LoadMode.NONE
    lazy_mode: LazyMode = LazyMode.AUTO
    locks_pages: bool = False  # of mapped files (`mmap+mlock`)
    load_mtp: bool = False  # the MTP blocks, too
    # Rows of logits. None is what llama-server reserves: one for each token of a batch (`all_outputs`), else
    # one for each slot and each token drafted for it.
    n_outputs: int | None = None
    n_draft: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferRow:
    """The contents of one ggml buffer type. Several rows can belong to HOST."""

    where: str  # a device's id, or HOST
    buffer_type: str  # `CUDA0`, `CUDA_Host`, `CPU`, `CPU_Mapped`, `CPU_REPACK`
    weights_bytes: int
    kv_bytes: int
    recurrent_bytes: int
    compute_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTensor:
    """A tensor that was meant for a device and went to the host."""

    name: str
    reason: str  # `CUDA0 has no kernel for TQ1_0`


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The buffers that llama.cpp would allocate."""

    rows: tuple[BufferRow, ...]
    slot_ctx_size: int  # tokens that one slot can use
    flash_attn: bool  # settled: `auto` is on or off by now
    sched_copies: int  # 4 under pipeline parallelism, else 1
    graph_splits: tuple[int, int]  # of prompt processing and of generation
    host_tensors: tuple[HostTensor, ...]
    engine: str  # version and commit of the llama.cpp that answered
    # The planned machine has another processor than the simulator's, so CPU_REPACK layouts may differ.
    other_cpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The reason why there is no answer, in one sentence."""

    reason: str
    model_refused: bool  # the model or configuration is at fault, not the simulator
    crashed: bool = False  # it ended without a reason; with libraries of unknown make, the fault is unclear
    unavailable: bool = False  # nobody can be asked: no engine, or a feature that no simulator knows

    @property
    def is_unanswered(self) -> bool:
        """Whether the simulator was asked and gave no answer, so that nothing about the model is known."""
        return not (self.model_refused or self.unavailable)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftQuestion:
    """A draft context that works on the states of a main one, and is made with it."""

    main: Question
    draft: Question  # of the same `model`: its MTP blocks on the weights that are loaded already
    spec_types: tuple[str, ...]
    backend_sampling: bool = True  # each slot's drafts are sampled on the device

    @property
    def shares_model(self) -> bool:
        return self.draft.model == self.main.model

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices of both."""
        return _of_both(self.main, self.draft)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftAnswer:
    """The buffers of a draft context once it is loaded, and what the first batch adds to both contexts."""

    rows: tuple[BufferRow, ...]
    growth: tuple[BufferRow, ...]
    engine: str
    other_cpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorQuestion:
    model: str
    devices: tuple[Device, ...]  # all that are in use
    where: str  # the device it goes to, or HOST
    flash_attn: FlashAttention = FlashAttention.AUTO
    image_min_tokens: int = -1  # -1: the model's own number
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorAnswer:
    """The buffers of a projector as llama-server starts: weights, and compute for a warm-up image."""

    rows: tuple[BufferRow, ...]
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitQuestion:
    """A llama-server line before `--fit`: what the engine's common_fit_params (common/fit.cpp) is given."""

    question: Question  # with the context 0 where the line leaves it open
    layers_given: bool = False  # `-ngl`, be it `all`: fit leaves the layers alone
    targets: tuple[int, ...]  # bytes to leave free, a number for each device; of the host if there is none
    least_ctx_size: int  # the context is not shortened below it
    host_bytes: int  # RAM in total, which fit counts if there is no device
    companion: Question | None = None  # a draft model, which fit counts with the model

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices of the model and its companion."""
        return _of_both(self.question, self.companion) if self.companion else self.question.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A line as `--fit` leaves it: also what it has changed before it gave up."""

    gave_up: bool
    ctx_size: int
    n_gpu_layers: int | None  # None: all layers
    tensor_split: tuple[float, ...]
    overrides: tuple[TensorOverride, ...]
    engine: str


def _of_both(main: Question, other: Question) -> tuple[Device, ...]:
    return (*main.devices, *(device for device in other.devices if device not in main.devices))


class Oracle(Protocol):
    def simulate(self, question: Question) -> Answer | Refusal: ...


class FitOracle(Protocol):
    def fit(self, question: FitQuestion) -> Fitted | Refusal: ...


@runtime_checkable
class DraftOracle(Oracle, Protocol):
    def simulate_draft(self, question: DraftQuestion, draft: Oracle | None) -> DraftAnswer | Refusal:
        """Simulate a context beside this model's; `draft` is the oracle of its model, if it has its own."""
        ...


class ProjectorOracle(Protocol):
    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal: ...
