"""Models of real sizes, hollow, in quantised types.

Dimensions are those of the models' config.json (moonshotai/Kimi-K2.5, Qwen/Qwen3-235B-A22B, meta-llama's
Llama-3.3-70B-Instruct, google/gemma-3-27b-it) as presets of tests/make_gguf.py; types are what quantisers
publish them in, and TQ1_0, which Vulkan cannot multiply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Device
from launcher.plan.modes import FlashAttention
from launcher.plan.oracle import Question
from tests.make_gguf import Types, make_gguf
from tests.simulate.cases import EXPERTS_ON_HOST, QUANTISED_CACHE, describe
from tests.simulate.fit_params import question_like_fit

PART, AT_LEAST_MIB = 0.01, 4
"""How far from llama-fit-params a figure may be."""
CTX_SIZE = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """A model and the types of its experts (or of all its matrices, where it has none)."""

    architecture: str
    preset: str
    types: tuple[GgmlType, ...]
    has_experts: bool


WIDTHS = (
    Width(
        architecture="deepseek2",
        preset="kimi-k2.5",
        types=(GgmlType.Q4_K, GgmlType.IQ2_XXS, GgmlType.TQ1_0),
        has_experts=True,
    ),
    Width(
        architecture="qwen3moe",
        preset="qwen3-235b",
        types=(GgmlType.Q4_K, GgmlType.IQ2_XXS, GgmlType.TQ1_0),
        has_experts=True,
    ),
    Width(
        architecture="llama",
        preset="llama-3.3-70b",
        types=(GgmlType.Q4_K, GgmlType.IQ3_XXS),
        has_experts=False,
    ),
    Width(
        architecture="gemma3",
        preset="gemma-3-27b",
        types=(GgmlType.Q4_K, GgmlType.Q6_K),
        has_experts=False,
    ),
)
_ANY: tuple[dict[str, object], ...] = (
    {"flash_attn": FlashAttention.ON},
    {"flash_attn": FlashAttention.OFF},
    {"flash_attn": FlashAttention.ON, **QUANTISED_CACHE},
)
_WITH_EXPERTS: tuple[dict[str, object], ...] = (
    {"flash_attn": FlashAttention.ON, "overrides": EXPERTS_ON_HOST},
)


def width_cases(
    folder: Path, devices: tuple[Device, ...], *, every: int = 1
) -> Iterator[tuple[str, Question]]:
    """Yield one in `every` of all models, types and settings on 1 to all of `devices`, or on the host."""
    counts = range(1, len(devices) + 1) if devices else (0,)
    cases = [
        (width, type_, count, change)
        for width in WIDTHS
        for type_ in width.types
        for count in counts
        for change in ((*_ANY, *_WITH_EXPERTS) if width.has_experts else _ANY)
    ]
    for width, type_, count, change in cases[::every]:
        what = describe(f"{width.preset} {type_.name}", count, change)
        yield what, question_like_fit(_written(width, type_, folder), CTX_SIZE, devices[:count], **change)


def _written(width: Width, type_: GgmlType, folder: Path) -> Path:
    path = folder / f"{width.preset}-{type_.name}.gguf"
    if not path.exists():
        dense = GgmlType.Q8_0 if width.has_experts else type_
        types = Types(expert=type_, dense=dense, embedding=GgmlType.Q6_K)
        make_gguf(path, width.architecture, preset=width.preset, types=types, hollow=True)
    return path
