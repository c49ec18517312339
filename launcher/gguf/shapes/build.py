"""Choose the builder of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from launcher.errors import BadGguf
from launcher.gguf.metadata import MetadataScalar
from launcher.gguf.shapes.dense import bert, gemma3, llama, phi3, qwen, qwen3vl
from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.experts import (
    deepseek2,
    glm4moe,
    glm_dsa,
    gpt_oss,
    llama4,
    minimax_m2,
    qwen3moe,
)
from launcher.gguf.shapes.gemma4 import gemma4
from launcher.gguf.shapes.hybrid import qwen35

_BUILDERS: dict[str, Callable[[Dimensions], Shape]] = {
    "bert": bert,
    "deepseek2": deepseek2,
    "gemma3": gemma3,
    "gemma4": gemma4,
    "glm-dsa": glm_dsa,
    "glm4moe": glm4moe,
    "gpt-oss": gpt_oss,
    "llama": llama,
    "llama4": llama4,
    "minimax-m2": minimax_m2,
    "phi3": phi3,
    "qwen2": qwen,
    "qwen3": qwen,
    "qwen35": qwen35,
    "qwen35moe": qwen35,
    "qwen3moe": qwen3moe,
    "qwen3vl": qwen3vl,
}

SHAPED = tuple(_BUILDERS)  # architectures that can be built


def build_shape(architecture: str, dimensions: Iterable[tuple[str, MetadataScalar]]) -> Shape:
    """Build metadata and tensors of a model with these dimensions.

    Raises BadGguf for an architecture without a builder, and for a dimension it lacks or does not have.
    """
    builder = _BUILDERS.get(architecture)
    if builder is None:
        raise BadGguf(f"no shape is known for {architecture}, only for {', '.join(_BUILDERS)}")
    dims = Dimensions(architecture, dimensions)
    shape = builder(dims)
    dims.check_all_asked()
    return shape
