"""List what may be tried instead of a plan's own settings, the most promising first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.plan.companions import MTP
from launcher.plan.modes import CacheType, LoadMode, NumaMode
from launcher.plan.plan import Plan

_UBATCHES = (128, 256, 512, 1024, 2048, 4096)
_EXPERT_STEPS = (1, 2, 4)  # blocks of experts more and fewer on the host
_NGRAMS = ("ngram-mod", "ngram-simple", "ngram-map-k")


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
    has: Callable[[str], bool]  # the engine has this flag
    drafts: bool  # something drafts already
    has_mtp: bool
    has_experts: bool
    knows_prompts: bool  # the user's own: random tokens say nothing about guesses from the text


def settings_to_try(start: Start, machine: Machine) -> tuple[Setting, ...]:
    """Return every setting that differs from the plan's and that the engine has a flag for."""
    listed = (
        *_threads(start, machine),
        *_ubatches(start.plan),
        *_batch_threads(start, machine),
        *_drafts(start),
        *_experts(start),
        *_cache_types(start.plan),
        *_load_modes(start.plan),
        *_numa(start.plan, machine),
    )
    return tuple(setting for setting in listed if all(map(start.has, _flags(setting))))


def _flags(setting: Setting) -> Iterator[str]:
    return (word for word in setting.words if word.startswith("-"))


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


def _ubatches(plan: Plan) -> Iterator[Setting]:
    for size in _UBATCHES:
        if size != plan.ubatch_size and size <= max(plan.ctx_size, 512):
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
    for mode in (NumaMode.DISTRIBUTE, NumaMode.ISOLATE):
        if mode is not plan.numa:
            yield Setting(knob="NUMA", words=("--numa", mode.value))
