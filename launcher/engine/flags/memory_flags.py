"""Read the flags that decide memory: a handler for each, by its first spelling. Pure.

Values from common/arg.cpp at 0c1e570; removed flags do what they did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.machine.machine import MAX_DEVICES
from launcher.machine.peers import is_endpoint
from launcher.plan.amounts import HOST
from launcher.plan.check.configuration import AUTO_SLOTS, WHOLE_CONTEXT, Configuration
from launcher.plan.expert_pattern import EXPERTS, block_pattern
from launcher.plan.modes import (
    CacheType,
    FlashAttention,
    LazyMode,
    LoadMode,
    Pooling,
    SplitMode,
    TensorOverride,
)
from launcher.plan.overrides import parse_rules
from launcher.units import MIB

_DENSE_FFN = r"\.ffn_(up|down|gate)\."  # LLM_FFN_DENSE_REGEX, common/common.h
# common_arg_utils::is_truthy, is_falsey, is_autoy.
TRUE = frozenset({"on", "enabled", "true", "1"})
FALSE = frozenset({"off", "disabled", "false", "0"})
AUTO = frozenset({"auto", "-1"})
_INT_MAX = (1 << 31) - 1  # of std::stoi, on every machine that llama.cpp runs on
MOST_BLOCKS = 512  # LLAMA_MAX_LAYERS (src/llama-hparams.h): patterns for blocks beyond it match nothing

# Flags that send single tensors to a place. In the order typed, the first that matches a tensor decides.
OVERRIDES = frozenset({"-ot", "-cmoe", "-ncmoe", "-ncffn"})
# Flags under which logits are reserved for whole batches.
OUTPUTS = frozenset({"--embedding", "--rerank", "--pooling"})
# Flags that say who computes with the host's weights in prompts.
OFFLOADS = frozenset({"--op-offload", "--no-op-offload"})


@dataclass(slots=True)
class MemorySettings:
    """Fields of Configuration as they are read, and the overrides, which add up."""

    # Fields by name, because each flag sets the field its handler names; hence not a ContextParameters.
    fields: dict[str, Any] = field(default_factory=dict)
    overrides: list[TensorOverride] = field(default_factory=list)

    def settle(self) -> Configuration:
        """Return the configuration, with slots, pool and batch as server.cpp settles them."""
        settings = dict(self.fields)
        slots = settings.pop("n_parallel", 0)
        settings["slots_given"] = bool(slots)
        shared = settings.pop("kv_unified", False)
        if not slots:
            slots, shared = AUTO_SLOTS, True
        configuration = Configuration(
            n_parallel=slots, kv_unified=shared, overrides=tuple(self.overrides), **settings
        )
        # server.cpp, "embeddings enabled with n_batch": pooling alone does not shorten the batch
        if configuration.embedding:
            batch = min(configuration.batch_size, configuration.ubatch_size)
            configuration = replace(configuration, batch_size=batch)
        return configuration


Handler = Callable[[MemorySettings, str], None]


def _number(name: str, least: int) -> Handler:
    def handle(settings: MemorySettings, value: str) -> None:
        settings.fields[name] = _integer(value, least)

    return handle


def _fixed(name: str, value: object) -> Handler:
    def handle(settings: MemorySettings, _: str) -> None:
        settings.fields[name] = value

    return handle


def _parsed(name: str, parse: Callable[[str], object]) -> Handler:
    def handle(settings: MemorySettings, value: str) -> None:
        settings.fields[name] = parse(value)

    return handle


def _integer(value: str, least: int) -> int:
    number = int(value)
    if not least <= number <= _INT_MAX:
        raise ValueError(value)
    return number


def _slots(settings: MemorySettings, value: str) -> None:
    slots = _integer(value, -_INT_MAX)
    if slots == 0:
        raise ValueError(value)
    settings.fields["n_parallel"] = max(slots, 0)  # 0: as many as the server takes without a number


def _layers(settings: MemorySettings, value: str) -> None:
    # --fit may change auto (-1), but not all (-2) or a number.
    count = {"auto": -1, "all": -2}.get(value)
    count = _integer(value, -_INT_MAX) if count is None else count
    settings.fields["n_gpu_layers"] = None if count < 0 else count
    settings.fields["layers_given"] = count != -1


def _flash(value: str) -> FlashAttention:
    if value in AUTO:
        return FlashAttention.AUTO
    return FlashAttention.ON if value in TRUE or not value else FlashAttention(value)


def _onoff(value: str) -> bool:
    if value not in TRUE | FALSE:
        raise ValueError(value)
    return value in TRUE


def _devices(value: str) -> tuple[str, ...]:
    names = tuple(filter(None, value.split(",")))
    if not names:
        raise ValueError(value)
    return () if names == ("none",) else names


def _peers(settings: MemorySettings, value: str) -> None:
    endpoints = value.split(",")
    if not all(map(is_endpoint, endpoints)):
        raise ValueError(value)
    settings.fields["rpc"] = (*settings.fields.get("rpc", ()), *endpoints)  # each adds to the others


def _split(value: str) -> tuple[float, ...]:
    parts = tuple(float(part) for part in re.split(r"[,/]+", value))
    if not all(0 <= part <= _INT_MAX for part in parts):
        raise ValueError(value)
    return parts


def _load_mode(settings: MemorySettings, value: str) -> None:
    # As far as memory goes: direct I/O allocates like none, locked pages are mapped pages.
    modes = {"auto": None, "dio": LoadMode.NONE, "mmap+mlock": LoadMode.MMAP}
    settings.fields["load_mode"] = modes[value] if value in modes else LoadMode(value)
    settings.fields["locks_pages"] = value == "mmap+mlock"


def _loaded(mode: LoadMode) -> Handler:
    def handle(settings: MemorySettings, _: str) -> None:
        settings.fields["load_mode"] = mode
        settings.fields["locks_pages"] = False

    return handle


def _locked(settings: MemorySettings, _: str) -> None:
    # The removed --mlock locked what was mapped, or after --no-mmap what was read.
    unmapped = settings.fields.get("load_mode") is LoadMode.NONE
    settings.fields["load_mode"] = LoadMode.MLOCK if unmapped else LoadMode.MMAP
    settings.fields["locks_pages"] = not unmapped


def _context(settings: MemorySettings, value: str) -> None:
    settings.fields["ctx_size"] = size = _integer(value, 0)
    if not size:
        settings.fields["fit_ctx"] = WHOLE_CONTEXT


def _targets(value: str) -> tuple[int, ...]:
    # One for every device, or one a device; further devices keep the default (common/arg.cpp, --fit-target).
    parts = re.split(r"[,/]+", value)
    if len(parts) >= MAX_DEVICES:
        raise ValueError(value)
    sizes = [_integer(part, 0) * MIB for part in parts]
    return tuple(sizes * MAX_DEVICES if len(sizes) == 1 else sizes)


def _cache_ram(settings: MemorySettings, value: str) -> None:
    size = _integer(value, -_INT_MAX)
    settings.fields["cache_ram_bytes"] = None if size < 0 else size * MIB
    settings.fields["cache_ram_given"] = True


def _override(settings: MemorySettings, value: str) -> None:
    settings.overrides += parse_rules(value)


def _all_experts(settings: MemorySettings, _: str) -> None:
    settings.overrides.append(TensorOverride(pattern=EXPERTS, where=HOST))


def _first_blocks(regex: str) -> Handler:
    # llama.cpp makes one pattern a block (llm_add_n_cpu_ffn_overrides); one for all matches the same tensors.
    def handle(settings: MemorySettings, value: str) -> None:
        blocks = range(min(_integer(value, 0), MOST_BLOCKS))
        if blocks:
            settings.overrides.append(TensorOverride(pattern=block_pattern(blocks, regex), where=HOST))

    return handle


def _pooling(settings: MemorySettings, value: str) -> None:
    settings.fields["pooling"] = Pooling(value)


def _rerank(settings: MemorySettings, _: str) -> None:
    settings.fields.update(embedding=True, pooling=Pooling.RANK)


HANDLERS: dict[str, Handler] = {
    "-c": _context,
    "--kv-unified-per-slot": _number("ctx_per_slot", 0),
    "-np": _slots,
    "-b": _number("batch_size", 1),
    "-ub": _number("ubatch_size", 1),
    "-mg": _number("main_gpu", -1),
    "-ctxcp": _number("ctx_checkpoints", 0),
    "-fitc": _number("fit_ctx", 0),
    "--cache-idle-slots": _fixed("cache_idle_slots", True),
    "--no-cache-idle-slots": _fixed("cache_idle_slots", False),
    "-kvu": _fixed("kv_unified", True),
    "-no-kvu": _fixed("kv_unified", False),
    "-kvo": _fixed("kv_offload", True),
    "-nkvo": _fixed("kv_offload", False),
    "--op-offload": _fixed("op_offload", True),
    "--no-op-offload": _fixed("op_offload", False),
    "--no-host": _fixed("no_host", True),
    "--repack": _fixed("repack", True),
    "-nr": _fixed("repack", False),
    "--swa-full": _fixed("swa_full", True),
    "--embedding": _fixed("embedding", True),
    "--rerank": _rerank,
    "--pooling": _pooling,
    "-ctk": _parsed("cache_type_k", CacheType),
    "-ctv": _parsed("cache_type_v", CacheType),
    "-fa": _parsed("flash_attn", _flash),
    "-fit": _parsed("fit", _onoff),
    "-fitt": _parsed("fit_targets", _targets),
    "--rpc": _peers,
    "-dev": _parsed("devices", _devices),
    "-sm": _parsed("split_mode", SplitMode),
    "-ts": _parsed("tensor_split", _split),
    "-lm": _load_mode,
    "-lzm": _parsed("lazy_mode", LazyMode),
    "--mmap": _loaded(LoadMode.MMAP),
    "--mlock": _locked,
    "-ndio": _loaded(LoadMode.MMAP),
    "--no-mmap": _loaded(LoadMode.NONE),
    "-dio": _loaded(LoadMode.NONE),
    "-ngl": _layers,
    "-cram": _cache_ram,
    "-ot": _override,
    "-cmoe": _all_experts,
    "-ncmoe": _first_blocks(EXPERTS),
    "-ncffn": _first_blocks(_DENSE_FFN),
}
