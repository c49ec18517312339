"""Models and machines of many shapes, as the planner sees them: headers and numbers only."""

from __future__ import annotations

import functools

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import ModelFile, Shard
from launcher.machine.machine import Backend, Cpu, Device, Machine
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.parameters import ContextParameters
from launcher.units import GIB, MIB
from tests.make_gguf import Types, make_shards


@functools.cache
def model(
    architecture: str = "qwen3moe",
    preset: str = "mini",
    *,
    splits: int = 1,
    expert: GgmlType = GgmlType.Q4_0,
    n_vocab: int | None = None,
    n_block: int | None = None,
) -> ModelFile:
    """A hollow model that was never written. `n_vocab` and `n_block` change the preset's."""
    numbers = {"n_vocab": n_vocab, "n_block": n_block}
    shards = make_shards(
        architecture,
        preset=preset,
        splits=splits,
        types=Types(expert=expert),
        numbers={key: value for key, value in numbers.items() if value is not None},
    )
    headers = [parse_header(shard.header) for shard in shards]
    return ModelFile(
        model_id=f"{architecture}-{preset}",
        source="path",
        shards=tuple(Shard(name=shard.name, size_bytes=shard.size_bytes) for shard in shards),
        headers=tuple(header for header in headers if isinstance(header, Header)),
    )


def architecture_of(file: ModelFile) -> Architecture:
    return read_architecture(file.metadata, file.tensors)


def device(
    index: int,
    free_bytes: int,
    *,
    backend: Backend = Backend.CUDA,
    shares_host_memory: bool = False,
    display: bool | None = None,
) -> Device:
    prefix = {Backend.CUDA: "CUDA", Backend.VULKAN: "Vulkan", Backend.METAL: "MTL"}[backend]
    return Device(
        id=f"{prefix}{index}",
        backend=backend,
        name="a card",
        total_bytes=free_bytes,
        free_bytes=free_bytes,
        shares_host_memory=shares_host_memory,
        display=display,
    )


def machine(*devices: Device, ram_bytes: int = 64 * GIB, cpu: Cpu | None = None) -> Machine:
    """A machine with these devices and this much RAM available, of as much."""
    return Machine(
        os="linux",
        arch="x86_64",
        cpu=cpu or eight_cores(),
        ram_total_bytes=ram_bytes,
        ram_available_bytes=ram_bytes,
        ram_limit_bytes=None,
        nodes=(),
        devices=devices,
        store=None,
    )


def cards(*free_mib: int, backend: Backend = Backend.CUDA) -> tuple[Device, ...]:
    """Devices with this much free memory above what backend and margin take together (1024 MiB)."""
    return tuple(device(index, (mib + 1024) * MIB, backend=backend) for index, mib in enumerate(free_mib))


def eight_cores(*, quota: float | None = None, affinity: int = 16, performance: int | None = 8) -> Cpu:
    return Cpu(
        name="a CPU",
        physical_cores=8,
        performance_cores=performance,
        logical_cores=16,
        affinity=affinity,
        quota=quota,
        isa=("AVX2",),
    )


def parameters(
    ctx_size: int = 8192,
    *,
    n_parallel: int = 1,
    ubatch_size: int = 512,
    flash_attn: bool = True,
    cache_type: CacheType = CacheType.F16,
) -> ContextParameters:
    return ContextParameters(
        ctx_size=ctx_size,
        n_parallel=n_parallel,
        cache_type_k=cache_type,
        cache_type_v=cache_type,
        batch_size=2048,
        ubatch_size=ubatch_size,
        flash_attn=FlashAttention.AUTO if flash_attn else FlashAttention.OFF,
    )
