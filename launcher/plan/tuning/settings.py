"""List what may be tried instead of a plan's own settings, the most promising first. Pure.

A knob has no settings where it cannot change anything: threads, load modes and NUMA modes where the host only
looks tokens up, batches longer than every prompt, experts, their cache and op offload without a device,
guesses from the text with tokens at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.companions import MTP
from launcher.plan.forecast.prefill import OFFLOAD_FROM
from launcher.plan.modes import CacheType, LoadMode, NumaMode
from launcher.plan.plan import Plan
from launcher.units import MIB

_UBATCHES = (128, 256, 512, 1024, 2048, 4096)
_EXPERT_STEPS = (1, 2, 4)  # blocks of experts more and fewer on the host
EXPERT_CACHE = "--moe-cache-mib"
_NGRAMS = ("ngram-mod", "ngram-simple", "ngram-map-k")
# MiB; a miss is uploaded and computed on the device, so less than a good part of the experts is a loss
_EXPERT_CACHES = (2048, 8192, 32768)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One knob, turned: llama-server's words that take the place of the plan's."""

    knob: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The plan to begin with: what its command line says, where that may differ from the plan."""

    plan: Plan
    threads: int
    batch_threads: int
    takes: Callable[[str, str], bool]  # the engine has this flag with this value
    drafts: bool  # something drafts already
    has_mtp: bool
    has_experts: bool
    knows_prompts: bool  # the user's own
    longest_prompt: int  # tokens, at most

    @property
    def host_computes(self) -> bool:
        """The host multiplies with weights, beside looking tokens up."""
        placement = self.plan.placement
        return (
            placement.n_gpu_layers <= placement.n_block
            or bool(placement.host_expert_blocks or placement.host_expert_parts or placement.overrides)
            or self.drafts
        )


def settings_to_try(start: Start, machine: Machine) -> tuple[Setting, ...]:
    """Return every setting that differs from the plan's, can matter here, and that the engine takes."""
    listed = (
        *(_threads(start, machine) if start.host_computes else ()),
        *_ubatches(start),
        *(_batch_threads(start, machine) if start.host_computes else ()),
        *_drafts(start),
        *_experts(start),
        *_expert_caches(start.plan),
        *(_offloads(start) if start.host_computes else ()),
        *_cache_types(start.plan),
        *(_load_modes(start.plan) if start.host_computes else ()),
        *(_numa(start.plan, machine) if start.host_computes else ()),
    )
    return tuple(setting for setting in listed if all(_taken(start, setting)))


def _taken(start: Start, setting: Setting) -> Iterator[bool]:
    # a plan without a NUMA mode has no flag: llama-server never sees `off`
    pairs = flags_of(setting.words)
    return (start.takes(flag, value) for flag, value in pairs if value != NumaMode.OFF)


def flags_of(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each flag of a setting with its value, which is empty for a switch."""
    for index, word in enumerate(words):
        if word.startswith("-"):
            value = words[index + 1] if index + 1 < len(words) else ""
            yield word, "" if value.startswith("-") else value


def _thread_counts(machine: Machine) -> Iterable[int]:
    cpu = machine.cpu
    most = cpu.affinity if cpu.quota is None else max(min(cpu.affinity, int(cpu.quota)), 1)
    cores = min(cpu.performance_cores or cpu.physical_cores or most, most)
    counts = {cores, most, cores - 1, cores // 2, (cores * 3) // 4}
    return sorted((count for count in counts if 1 <= count <= most), reverse=True)


def _threads(start: Start, machine: Machine) -> Iterator[Setting]:
    for count in _thread_counts(machine):
        if (count, count) != (start.threads, start.batch_threads):
            yield Setting(knob="threads", words=("-t", str(count), "-tb", str(count)))


def _batch_threads(start: Start, machine: Machine) -> Iterator[Setting]:
    for count in _thread_counts(machine):
        if count not in {start.batch_threads, start.threads}:
            yield Setting(knob="batch threads", words=("-tb", str(count)))


def _ubatches(start: Start) -> Iterator[Setting]:
    plan = start.plan
    # all that hold the longest prompt are alike
    most = next((size for size in _UBATCHES if size >= start.longest_prompt), _UBATCHES[-1])
    now = min(plan.ubatch_size, most)
    for size in _UBATCHES:
        if size != now and size <= min(most, max(plan.ctx_size, 512)):
            batch = ("-b", str(size)) if size > plan.batch_size else ()
            yield Setting(knob="ubatch", words=("-ub", str(size), *batch))


def _drafts(start: Start) -> Iterator[Setting]:
    if start.drafts:
        return
    if start.has_mtp:
        for count in ("1", "3"):
            words = ("--spec-type", MTP, "--spec-draft-n-max", count)
            yield Setting(knob="drafts", words=words)
    if start.knows_prompts:
        for kind in _NGRAMS:
            yield Setting(knob="drafts", words=("--spec-type", kind))


def _experts(start: Start) -> Iterator[Setting]:
    placement = start.plan.placement
    if not start.has_experts or not placement.devices or placement.overrides:
        return
    now = len(placement.host_expert_blocks) + len(placement.host_expert_parts)
    for step in _EXPERT_STEPS:
        for count in (now - step, now + step):
            if 0 <= count <= placement.n_block:
                yield Setting(knob="experts", words=("-ncmoe", str(count)))


def _expert_caches(plan: Plan) -> Iterator[Setting]:
    """Try llama.cpp's cache of the host's experts on the devices (PR 29887): whole blocks of them only."""
    if not plan.placement.devices or not plan.placement.host_expert_blocks:
        return
    on_host = sum(row.weights.n_bytes for row in plan.ledger if row.where == HOST)
    for size in _EXPERT_CACHES:
        if size * MIB <= on_host:
            yield Setting(knob="expert cache", words=(EXPERT_CACHE, str(size)))


def _offloads(start: Start) -> Iterator[Setting]:
    """Try who computes with the host's weights in prompts: the first device, or the host itself."""
    # shorter batches stay on the host in any case (GGML_OP_OFFLOAD_MIN_BATCH)
    if start.plan.placement.devices and start.longest_prompt >= OFFLOAD_FROM:
        yield Setting(
            knob="op offload", words=("--no-op-offload" if start.plan.op_offload else "--op-offload",)
        )


def _cache_types(plan: Plan) -> Iterator[Setting]:
    now = (plan.cache_type_k, plan.cache_type_v)
    for kind in (CacheType.F16, CacheType.Q8_0):
        if now != (kind, kind):
            yield Setting(knob="KV", words=("-ctk", kind.value, "-ctv", kind.value))


def _load_modes(plan: Plan) -> Iterator[Setting]:
    for mode in (LoadMode.NONE, LoadMode.MMAP):
        if mode is not plan.load_mode:
            yield Setting(knob="load mode", words=("-lm", mode.value))


def _numa(plan: Plan, machine: Machine) -> Iterator[Setting]:
    if len([node for node in machine.nodes if node.cpus]) < 2:
        return
    for mode in (NumaMode.DISTRIBUTE, NumaMode.ISOLATE, NumaMode.OFF):
        if mode is not (plan.numa or NumaMode.OFF):
            yield Setting(knob="NUMA", words=("--numa", mode.value))
