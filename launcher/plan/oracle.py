"""The seam to the simulator: what the planner asks, and what llama.cpp's own allocator answers.

Pure data and one Protocol. `simulate` implements it; where it cannot answer, the analytic ledger does.
A question carries everything that decides how much memory llama-server takes, so that an answer can be
cached under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from launcher.machine.machine import Device
from launcher.plan.modes import FlashAttention, LoadMode, SplitMode, TensorOverride
from launcher.plan.parameters import ContextParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(ContextParameters):
    """One configuration of llama-server.

    `model` is the path of the first shard, hollow or real. `devices` are the ones to use, in llama.cpp's
    order; empty means CPU only. `ctx_size` is the whole KV pool (`-c`); with `kv_unified` every slot may use
    all of it. `n_gpu_layers` None is all of them; `tensor_split` empty is llama.cpp's own split by free
    memory; `n_outputs` None is one row of logits for each slot and for each of the `n_draft` tokens that are
    drafted for it at once, as llama-server reserves.
    """

    model: str
    devices: tuple[Device, ...]
    kv_unified: bool = True
    swa_full: bool = False
    overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()
    n_gpu_layers: int | None = None
    main_gpu: int = 0
    split_mode: SplitMode = SplitMode.LAYER
    op_offload: bool = True
    no_host: bool = False
    kv_offload: bool = True
    load_mode: LoadMode = LoadMode.NONE
    n_outputs: int | None = None
    n_draft: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferRow:
    """What one ggml buffer type holds. `where` is the device's id or HOST; `buffer_type` is llama.cpp's name
    for it (`CUDA0`, `CUDA_Host`, `CPU`, `CPU_Mapped`, `CPU_REPACK`). `kv_bytes` counts attention caches,
    `recurrent_bytes` recurrent state. Several rows can belong to HOST."""

    where: str
    buffer_type: str
    weights_bytes: int
    kv_bytes: int
    recurrent_bytes: int
    compute_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTensor:
    """A tensor that was meant for a device and went to the host, and why
    (`CUDA0 has no kernel for TQ1_0`)."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What llama.cpp would allocate. `graph_splits` are those of prompt processing and of generation;
    `sched_copies` is 4 under pipeline parallelism, else 1; `slot_ctx_size` is what one slot can use.
    `engine` names the llama.cpp that answered (version and commit). `other_cpu`: the machine that is planned for has
    another processor than the one that answered, and weights in layouts of the CPU's own (CPU_REPACK) may differ."""

    rows: tuple[BufferRow, ...]
    slot_ctx_size: int
    flash_attn: bool  # settled: `auto` is on or off by now
    sched_copies: int
    graph_splits: tuple[int, int]
    host_tensors: tuple[HostTensor, ...]
    engine: str
    other_cpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """llama.cpp would not load this, or the simulator cannot run here: one sentence, and whether it is the
    model's or configuration's fault (`model_refused`) rather than the simulator's. `crashed` where it gave no reason
    but ended: with libraries of an unknown make, that may be anybody's fault."""

    reason: str
    model_refused: bool
    crashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorQuestion:
    """A multimodal projector (`--mmproj`): its file, the machine's devices that are in use, and the one it goes to,
    or HOST. -1 is the model's own number of image tokens."""

    model: str
    devices: tuple[Device, ...]
    where: str
    flash_attn: FlashAttention = FlashAttention.AUTO
    image_min_tokens: int = -1
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorAnswer:
    """What a projector would allocate as llama-server starts: weights, and compute for one warm-up image."""

    rows: tuple[BufferRow, ...]
    engine: str


class Oracle(Protocol):
    def simulate(self, question: Question) -> Answer | Refusal: ...


class ProjectorOracle(Protocol):
    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal: ...
