"""Turn a placement into the stages of a forecast: the bytes that each processor reads per token. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from launcher.gguf.architecture import Architecture
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.forecast.decode import Attention, Paging, Stage
from launcher.plan.forecast.factors import IK_LAWS, LAWS, Laws
from launcher.plan.forecast.measured import scaled
from launcher.plan.forecast.processors import Processor, processor_of
from launcher.plan.forecast.turn import Forecast, Turn, forecast_turn
from launcher.plan.memory.kv import Caches, size_caches
from launcher.plan.memory.ledger import Demand, Spread, host_experts, part_bytes, spread_out
from launcher.plan.memory.weights import LayerWeights, Weights
from launcher.plan.modes import CacheType, Dialect, is_quantised
from launcher.plan.parameters import ContextParameters
from launcher.plan.plan import Placement

# Bytes/s that an NVMe drive gives to page faults, as a guess; `probe --measure` measures it.
_USUAL_DISK = 1e9


def forecast_placement(
    demand: Demand, placement: Placement, machine: Machine, host: Processor, turn: Turn | None = None
) -> Forecast:
    """Predict the speed of a placement; `host` is the processor that computes with the host's weights."""
    parameters = demand.parameters
    wanted = (turn or Turn()).within(parameters.ctx_size)
    stages = stages_of(demand, placement, machine, host)
    forecast = forecast_turn(stages, wanted, parameters.n_tokens, laws=laws_of(parameters.dialect))
    return scaled(forecast, stages, machine.speed_ratios)


def laws_of(dialect: Dialect) -> Laws:
    """Return the laws that were fitted to this family of engines."""
    return IK_LAWS if dialect is Dialect.IK else LAWS


def stages_of(demand: Demand, placement: Placement, machine: Machine, host: Processor) -> tuple[Stage, ...]:
    """Return a stage for each device in use, then the host's; the model's own tokens pass no MTP block."""
    demand = replace(_without_mtp(demand), caches=caches_as_read(demand))
    spread = spread_out(placement)
    by_id = {device.id: device for device in machine.devices}
    streams = bool(spread.shares) and demand.parameters.op_offload
    streamed = _streamed_bytes(demand, spread) if streams else 0.0
    stages = [
        _device_stage(demand, spread, index, processor_of(by_id[name]), streamed if index == 0 else 0.0)
        for index, name in enumerate(placement.devices)
    ]
    host_stage = _host_stage(demand, spread, host, streamed)
    held = host_experts(demand.weights, spread)
    paging = paging_of(demand, held, placement.paged_bytes, machine)
    return (*stages, replace(host_stage, paging=paging))


def paging_of(demand: Demand, held_bytes: int, missing_bytes: int, machine: Machine) -> Paging | None:
    """Return how experts are read of which the host holds so many, and has no room for some."""
    if not missing_bytes:
        return None
    weights, n_expert = demand.weights, demand.architecture.n_expert
    measured = machine.store.fault_rate if machine.store else None
    return Paging(
        n_bytes=held_bytes,
        missing_bytes=missing_bytes,
        piece_bytes=max(layer.largest_expert_bytes for layer in weights.layers) / max(n_expert, 1),
        rate=measured or _USUAL_DISK,
        measured=measured is not None,
    )


def mtp_stages(demand: Demand, placement: Placement, machine: Machine, host: Processor) -> tuple[Stage, ...]:
    """Return the stage of one pass through the MTP blocks and the output layer, where the last block is.

    `demand` has the blocks' weights.
    """
    architecture, weights, used = demand.architecture, demand.weights, used_share(demand.architecture)
    by_id = {device.id: device for device in machine.devices}
    processor = processor_of(by_id[placement.devices[-1]]) if placement.n_gpu_layers else host
    layers = weights.layers[architecture.n_main :]
    dense = sum(layer.dense_bytes for layer in layers) + weights.tied_bytes
    experts = sum(layer.expert_bytes for layer in layers)
    moved = experts if architecture.n_main in placement.host_expert_blocks else 0  # they go together
    head = architecture.n_embd_head_k + architecture.n_embd_head_v
    cache = sum(architecture.n_head_kv[architecture.n_main :]) * head * 2  # bytes of f16
    block = Stage(
        processor=processor,
        n_layers=len(layers),
        read_bytes=dense + (experts - moved) * used,
        held_bytes=dense + experts - moved,
        flops=0.0,
        kv_bytes=float(cache),
        latent=architecture.is_mla,
        expert_share=used,
    )
    if not moved:
        return (block,)
    on_host = replace(block, processor=host, read_bytes=moved * used, held_bytes=moved, kv_bytes=0.0)
    return (block, on_host)


def _without_mtp(demand: Demand) -> Demand:
    n_main, layers = demand.architecture.n_main, demand.weights.layers
    empty = (LayerWeights(),) * (len(layers) - 1 - n_main)
    return replace(demand, weights=replace(demand.weights, layers=(*layers[:n_main], *empty, layers[-1])))


def used_share(architecture: Architecture) -> float:
    """Return the part of the routed experts that one token uses."""
    used = max(architecture.n_expert_used, default=0)
    return used / architecture.n_expert if architecture.n_expert else 1.0


def _device_stage(demand: Demand, spread: Spread, index: int, processor: Processor, streamed: float) -> Stage:
    weights, used, share = demand.weights, used_share(demand.architecture), spread.shares[index]
    layers = [(layer, weights.layers[layer]) for layer in share]
    dense = sum(layer.dense_bytes for _, layer in layers)
    if weights.n_block in share:
        dense += weights.tied_bytes
    parts = part_bytes(weights, spread)
    experts = sum(
        layer.expert_bytes - parts.get(number, 0)
        for number, layer in layers
        if number not in spread.host_experts
    )
    overridden = weights.overridden_on(spread.devices[index])
    dense, experts = dense + overridden.dense_bytes, experts + overridden.expert_bytes
    flops = sum(
        layer.dense_values + (layer.expert_values * used if number not in spread.host_experts else 0)
        for number, layer in layers
    )
    if streamed:  # in prompt processing this device computes with the host's weights
        flops += sum(weights.layers[number].expert_values * used for number in spread.host_experts)
        flops += sum(weights.layers[number].dense_values for number in spread.host_layers)
    return Stage(
        processor=processor,
        n_layers=len(layers),
        read_bytes=dense + experts * used,
        held_bytes=dense + experts,
        flops=2.0 * flops,
        kv_bytes=_kv_per_token(demand, share),
        latent=demand.architecture.is_mla,
        cache_types=cache_types(demand.parameters),
        streamed_bytes=streamed,
        attention=attention_of(demand.architecture, share),
        n_embd=demand.architecture.n_embd,
        expert_share=used,
    )


def attention_of(architecture: Architecture, blocks: Iterable[int]) -> Attention:
    """Sum the arithmetic of attention over blocks: keys, then values, two FLOPs a value and head."""
    a = architecture
    sizes = (a.n_embd_head_k + a.n_embd_head_v, a.n_embd_head_k_swa + a.n_embd_head_v_swa)
    if a.mla is not None:  # attention on the latents (llama-graph.cpp, build_attn_mha with v_mla)
        sizes = (2 * a.mla.kv_lora_rank + a.rope_dims,) * 2
    per_depth = windowed = 0.0
    for block in blocks:
        if block >= a.n_block or not a.kv_blocks[block] or a.recurrent_blocks[block]:
            continue
        if a.swa_blocks[block] and a.n_swa:
            windowed += 2.0 * a.n_head[block] * sizes[1] * a.n_swa
        else:
            per_depth += 2.0 * a.n_head[block] * sizes[0]
    return Attention(per_depth=per_depth, windowed=windowed, window=a.n_swa or 0, head_size=sizes[0] // 2)


def _host_stage(demand: Demand, spread: Spread, processor: Processor, streamed: float) -> Stage:
    weights, used = demand.weights, used_share(demand.architecture)
    whole = [weights.layers[index] for index in spread.host_layers]
    if not spread.shares:
        whole = list(weights.layers)
    dense = sum(layer.dense_bytes for layer in whole)
    experts = host_experts(weights, spread)
    values = sum(layer.dense_values + layer.expert_values * used for layer in whole)
    if spread.shares:
        outside = [index for index in spread.host_experts if index not in spread.host_layers]
        values += sum(weights.layers[index].expert_values * used for index in outside)
    else:
        dense += weights.tied_bytes
    overridden = weights.overridden_on(HOST)
    dense, experts = dense + overridden.dense_bytes, experts + overridden.expert_bytes
    stuck = weights.stuck_bytes
    blocks = spread.host_layers if spread.shares else range(weights.n_block)
    return Stage(
        processor=processor,
        n_layers=_n_host_layers(weights, spread),
        whole_layers=len(whole),
        read_bytes=dense + (experts + stuck) * used,
        held_bytes=dense + experts + stuck,
        flops=2.0 * values,
        kv_bytes=_kv_per_token(demand, blocks),
        latent=demand.architecture.is_mla,
        cache_types=cache_types(demand.parameters),
        streamed_bytes=streamed,
        attention=attention_of(demand.architecture, blocks),
        n_embd=demand.architecture.n_embd,
        expert_share=used,
    )


def _n_host_layers(weights: Weights, spread: Spread) -> int:
    if not spread.shares:
        return len(weights.layers)
    parts = (block for block, _ in spread.host_parts)
    overridden = weights.overridden_on(HOST).blocks
    return len({*spread.host_layers, *spread.host_experts, *parts, *overridden})


def _streamed_bytes(demand: Demand, spread: Spread) -> float:
    """Sum the host's weights that a device computes with in prompt processing."""
    weights = demand.weights
    dense = sum(weights.layers[index].dense_bytes for index in spread.host_layers)
    return float(dense + host_experts(weights, spread) + weights.overridden_on(HOST).n_bytes)


def _kv_per_token(demand: Demand, blocks: range) -> float:
    # The cache's own size over the whole context: a window that is full does not grow, so its blocks read
    # less.
    n_block = demand.weights.n_block
    total = sum(demand.caches.blocks[index].attention_bytes for index in blocks if index < n_block)
    return total / demand.parameters.ctx_size


def caches_as_read(demand: Demand) -> Caches:
    """Return the caches that are read as fast: a quantised one takes as long as F16."""
    # It is unpacked as it is read. Measured: DeepSeek-R1 on an RTX 5090 and host, F16 and q8_0, 18.2 and 16.7
    # tokens/s at depth 0, 12.6 and 11.9 at 30208, so 25 and 24 ms for the depth (S001-S004 and S021-S024 of
    # ikawrakow/ik_llama.cpp discussions/258); two more rigs lose 4 % with q8_0. None gains.
    parameters = demand.parameters
    kinds = [CacheType.F16 if is_quantised(kind) else kind for kind in cache_types(parameters)]
    if tuple(kinds) == cache_types(parameters):
        return demand.caches
    changed = replace(parameters, cache_type_k=kinds[0], cache_type_v=kinds[1])
    return size_caches(demand.architecture, changed)


def cache_types(parameters: ContextParameters) -> tuple[CacheType, CacheType]:
    """Return the types of keys and of values."""
    return parameters.cache_type_k, parameters.cache_type_v
