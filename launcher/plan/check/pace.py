"""Predict how fast exactly a command line will be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check
from launcher.plan.forecast.benched import Benched
from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.factors import LAWS, Laws
from launcher.plan.forecast.measured import as_measured, base_of, scaled
from launcher.plan.forecast.processors import Processor, host_processor, processor_of
from launcher.plan.forecast.turn import Forecast, Turn, forecast_turn
from launcher.plan.memory.assign import Share
from launcher.plan.memory.estimate import demand_of_question
from launcher.plan.modes import SplitMode
from launcher.plan.placement.pace import attention_of, caches_as_read, paging_of, used_share
from launcher.plan.placement.threads import choose_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where speeds are wanted: tokens generated after `depth` cached ones, and a prompt after the same."""

    depth: int
    prompt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    check: Check
    architecture: Architecture
    kv_bytes: tuple[float, ...]  # of each block, for each token of depth
    held_on_host: float
    streams: bool  # a device computes with the host's weights in prompts


def forecast_check(
    check: Check,
    machine: Machine,
    stages: Sequence[Stage],
    at: Point | None = None,
    measured: Benched | None = None,
    laws: Laws = LAWS,
) -> Forecast | None:
    """Predict one request at a time on these stages; None if there are none.

    What was measured of the line itself, or of lines like it, is put in the place of the prediction.
    """
    if not stages:
        return None
    turn, depth = Turn().within(check.slot_ctx_size), None
    if at is not None:
        turn, depth = Turn(cached_tokens=at.depth, prompt_tokens=at.prompt, reply_tokens=1), at.depth
    rows = min(check.question.ubatch_size, check.question.batch_size)
    forecast = forecast_turn(stages, turn, rows, at_depth=depth, laws=laws)
    if measured is not None:
        return as_measured(forecast, base_of(stages, rows, laws), measured, at_depth=depth)
    return scaled(forecast, stages, machine.speed_ratios)


def stages_of_check(
    check: Check, model: ModelFile, machine: Machine, *, threads: int | None = None
) -> tuple[Stage, ...]:
    """Return a stage for each device and the host's; none for a line whose work is not divided by layers."""
    question = check.question
    if question.split_mode in {SplitMode.ROW, SplitMode.TENSOR} and len(question.devices) > 1:
        return ()
    if any(device.peer is not None for device in question.devices):
        return ()  # nobody has measured the network's delay
    architecture = read_architecture(model.metadata, model.tensors)
    demand = demand_of_question(question, architecture, model)
    caches = caches_as_read(demand)
    host = check.assignment.share(HOST)
    held_on_host = float(host.weights_bytes - host.looked_up_bytes)
    line = _Line(
        check=check,
        architecture=architecture,
        kv_bytes=tuple(block.attention_bytes / question.ctx_size for block in caches.blocks),
        held_on_host=held_on_host,
        streams=bool(question.devices) and question.op_offload and held_on_host > 0,
    )
    cores = threads or choose_threads(machine.cpu)[0]
    by_id = {device.id: device for device in question.devices}
    shares = [share for share in check.assignment.shares if share.where != HOST]
    stages = [
        _stage(line, share, processor_of(by_id[share.where]), first=index == 0)
        for index, share in enumerate(shares)
    ]
    paging = paging_of(demand, host.expert_bytes, check.paged_bytes, machine)
    return (*stages, replace(_stage(line, host, host_processor(machine, cores)), paging=paging))


def _stage(line: _Line, share: Share, processor: Processor, *, first: bool = False) -> Stage:
    architecture, on_host = line.architecture, share.where == HOST
    used = used_share(architecture)
    held = share.weights_bytes - share.looked_up_bytes
    values = share.dense_values + share.expert_values * used
    if first and line.streams:  # in prompts this device computes with the host's weights
        host = line.check.assignment.share(HOST)
        values += host.dense_values + host.expert_values * used
    blocks = _attending(line, share)
    layers = {*share.layers, *share.expert_blocks} if on_host else set(share.layers)
    return Stage(
        processor=processor,
        n_layers=len(layers),
        whole_layers=len(share.layers) if on_host else 0,
        read_bytes=held - share.expert_bytes * (1 - used),
        held_bytes=held,
        flops=2.0 * values,
        kv_bytes=sum(line.kv_bytes[block] for block in blocks),
        latent=architecture.is_mla,
        cache_types=(line.check.question.cache_type_k, line.check.question.cache_type_v),
        streamed_bytes=line.held_on_host if line.streams and (on_host or first) else 0.0,
        attention=attention_of(architecture, blocks),
        n_embd=architecture.n_embd,
        expert_share=used,
    )


def _attending(line: _Line, share: Share) -> tuple[int, ...]:
    """Return the blocks whose keys and values this place holds."""
    n_block, question = line.check.assignment.n_block, line.check.question
    if not question.kv_offload:
        return tuple(range(n_block)) if share.where == HOST else ()
    return tuple(layer for layer in share.layers if layer < n_block)
