"""Assign layers by count, and single tensors by overrides and kernels, as llama.cpp does. Pure.

It explains a ledger; amounts are the simulator's where it runs.
"""

from __future__ import annotations

import bisect
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.machine.machine import Device
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.memory.kernels import NO_KERNEL
from launcher.plan.memory.tables import tables_of_question
from launcher.plan.memory.weights import EVERYWHERE, INPUT, TIED_TWICE, layer_of
from launcher.plan.oracle import Question
from launcher.plan.overrides import compiled_pattern, first_match

_EXPERTS = compiled_pattern(EXPERTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    where: str
    layers: tuple[int, ...]  # `n_block` is the output layer
    weights_bytes: int
    expert_blocks: tuple[int, ...]  # blocks whose routed experts are here
    expert_bytes: int
    types: frozenset[GgmlType] = frozenset()  # of the weights
    looked_up_bytes: int = 0  # tables of which a token reads rows: the embedding, where it is not the output
    # parameters that a token is multiplied with, and of routed experts all of them
    dense_values: int = 0
    expert_values: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A share for each device in use, and the host's last."""

    n_block: int
    shares: tuple[Share, ...]
    moved_blocks: tuple[int, ...]  # blocks of devices whose experts an override put on the host

    def share(self, where: str) -> Share:
        return next(share for share in self.shares if share.where == where)


def assign_layers(question: Question, n_block: int) -> tuple[str, ...]:
    """Return the place of every block and, last, of the output layer."""
    devices = question.devices
    if not devices:
        return (HOST,) * (n_block + 1)
    wanted = n_block + 1 if question.n_gpu_layers is None else question.n_gpu_layers
    start = max(n_block + 1 - wanted, 0)
    active = min(wanted, n_block + 1)
    shares = question.tensor_split or tuple(float(_free(device)) for device in devices)
    shares = (*shares, *(0.0,) * len(devices))[: len(devices)]
    if not any(shares):
        shares = (1.0,) * len(devices)  # nothing is free anywhere: no share is right, and none fits
    # In single precision, as llama.cpp has it: with doubles, thirds would fall elsewhere.
    sums = list(accumulate(shares, lambda total, share: _single(total + _single(share)), initial=0.0))[1:]
    splits = [_single(total / sums[-1]) for total in sums]
    return tuple(
        HOST if layer < start else devices[bisect.bisect_right(splits, _single((layer - start) / active))].id
        for layer in range(n_block + 1)
    )


def assign(question: Question, architecture: Architecture, tensors: Sequence[TensorInfo]) -> Assignment:
    # load_tensors (src/llama-model.cpp: splits, get_layer_buft_list) and create_tensor
    # (src/llama-model-loader.cpp: overrides first) at 0c1e570.
    n_block = architecture.n_block
    n_loaded = n_block if question.load_mtp else architecture.n_main
    layers = assign_layers(question, n_block)
    places = tuple(dict.fromkeys((*(device.id for device in question.devices), HOST)))
    weights = dict.fromkeys(places, 0)
    experts: dict[str, dict[int, int]] = {place: {} for place in places}
    work = {place: _Work() for place in places}
    moved: set[int] = set()
    sent_to = first_match(question.overrides)
    # a head does not ask its peers which kernels they have (ggml_backend_rpc_device_supports_op)
    own = [device for device in question.devices if device.peer is None]
    stuck = {device.id: NO_KERNEL.get(device.backend, frozenset()) for device in own}
    in_file = tables_of_question(question, architecture, tensors)
    for tensor in tensors:
        if tensor.name in in_file:
            continue
        block = _block(tensor.name, n_block)
        if block is not None and n_block > block >= n_loaded:
            continue  # MTP blocks are left out unless asked for
        is_expert = block is not None and bool(_EXPERTS.search(tensor.name))
        home = _homes(tensor.name, block, layers)
        forced = sent_to(tensor.name)
        for place in home if forced is None else (forced,):
            where = HOST if forced is None and tensor.type in stuck.get(place, ()) else place
            weights[where] += tensor.size_bytes
            work[where].add(tensor, is_input=block is None, is_expert=is_expert)
            if block is not None and is_expert:
                experts[where][block] = experts[where].get(block, 0) + tensor.size_bytes
                if forced == HOST != home[0]:
                    moved.add(block)
        tied = tensor.name == "token_embd.weight" and not architecture.has_output_tensor
        if tied and layers[-1] == HOST:
            work[HOST].looked_up_bytes -= tensor.size_bytes  # it is read whole, as the output
        if tied and forced is None and (layers[-1] != HOST or architecture.name in TIED_TWICE):
            weights[layers[-1]] += tensor.size_bytes
            work[layers[-1]].types.add(GgmlType(tensor.type))
    return Assignment(
        n_block=n_block,
        shares=tuple(_share(place, layers, weights[place], experts[place], work[place]) for place in places),
        moved_blocks=tuple(sorted(moved)),
    )


def lacking_on_peers(question: Question, assignment: Assignment) -> str | None:
    """Say which peer would end in its first token, for want of a kernel for weights that it is sent."""
    for device in question.devices:
        lacking = assignment.share(device.id).types & NO_KERNEL.get(device.backend, frozenset())
        if device.peer is not None and lacking:
            names = ", ".join(sorted(kind.name for kind in lacking))
            return (
                f"{device.id} ({device.label}) has no kernel for {names}, and llama.cpp sends it all the same"
            )
    return None


@dataclass(slots=True)
class _Work:
    """What a place multiplies with for a token."""

    types: set[GgmlType] = field(default_factory=set)
    looked_up_bytes: int = 0
    dense_values: int = 0
    expert_values: int = 0

    def add(self, tensor: TensorInfo, *, is_input: bool, is_expert: bool) -> None:
        self.types.add(GgmlType(tensor.type))
        if is_input:
            self.looked_up_bytes += tensor.size_bytes
        elif is_expert:
            self.expert_values += math.prod(tensor.shape)
        else:
            self.dense_values += math.prod(tensor.shape)


def _share(
    place: str, layers: Sequence[str], weights_bytes: int, experts: Mapping[int, int], work: _Work
) -> Share:
    return Share(
        where=place,
        layers=tuple(index for index, where in enumerate(layers) if where == place),
        weights_bytes=weights_bytes,
        expert_blocks=tuple(sorted(experts)),
        expert_bytes=sum(experts.values()),
        types=frozenset(work.types),
        looked_up_bytes=max(work.looked_up_bytes, 0),
        dense_values=work.dense_values,
        expert_values=work.expert_values,
    )


def _block(name: str, n_block: int) -> int | None:
    """Return a tensor's layer, `n_block` for the output's; None for the input's and every layer's."""
    if (block := layer_of(name, n_block)) is not None:
        return block
    return None if name.split(".", 1)[0] in (*INPUT, *EVERYWHERE) else n_block


def _homes(name: str, block: int | None, layers: tuple[str, ...]) -> tuple[str, ...]:
    if block is not None:
        return (layers[block],)
    if name.split(".", 1)[0] in INPUT:
        return (HOST,)
    return tuple(dict.fromkeys(layers[:-1]))


def _free(device: Device) -> int:
    return device.total_bytes if device.free_bytes is None else device.free_bytes


def _single(number: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded
