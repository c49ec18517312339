"""Parse what stands in for a model's files. Pure."""

from __future__ import annotations

import re

from launcher.gguf.ggml import GgmlType
from launcher.gguf.mixes import is_uniform, mix_labels, mix_rules
from launcher.gguf.shapes.build import SHAPED
from launcher.gguf.synthesis import TensorFamily, TypeRule
from launcher.models.profiles.profile import PublishedArchitecture, PublishedShape, QuantRecipe, RecipeBasis
from launcher.system.foreign_patterns import compile_foreign
from launcher.system.toml_table import TomlTable

_TENSOR = r"[a-z0-9_.{}]+"
_MAX_ROWS = 1 << 31
_MAX_BLOCK = 511  # LLAMA_MAX_LAYERS - 1, src/llama-hparams.h
_MAX_DIMS = 4


def read_published_architecture(table: TomlTable) -> PublishedArchitecture:
    """Parse `[architecture]`."""
    # GGUF keys and values; tensors with `{}` for a block, shapes in ggml's order, first and last block.
    architecture = PublishedArchitecture(
        source=table.text("source"),
        metadata=table.scalars("metadata"),
        families=tuple(_family(row) for row in table.tables("tensors")),
    )
    if "general.architecture" not in dict(architecture.metadata):
        table.fail("metadata", 'has no "general.architecture"')
    table.finish()
    return architecture


def read_shape(table: TomlTable) -> PublishedShape:
    """Parse `[shape]`: an architecture llama.cpp knows, and the dimensions of a config.json."""
    shape = PublishedShape(
        source=table.text("source"),
        architecture=table.text("architecture", pattern="|".join(SHAPED), like="qwen3"),
        dimensions=table.scalars("dimensions"),
    )
    table.finish()
    return shape


def _family(table: TomlTable) -> TensorFamily:
    name = table.text("name", pattern=_TENSOR, like="blk.{}.attn_q.weight")
    shape = table.integers("shape", 1, _MAX_ROWS)
    many = table.has("blocks")
    blocks = table.integers("blocks", 0, _MAX_BLOCK) if many else (0, 0)
    if len(shape) > _MAX_DIMS:
        table.fail("shape", f"has {len(shape)} dimensions, ggml has at most {_MAX_DIMS}")
    if len(blocks) != 2 or blocks[0] > blocks[1]:
        table.fail("blocks", "is not the first and the last block", hint="write it like blocks = [0, 60]")
    if ("{}" in name) != many:
        table.fail("blocks", f"and the {{}} in {name} go together")
    table.finish()
    return TensorFamily(name=name, shape=shape, first=blocks[0], last=blocks[1])


def read_recipe(table: TomlTable) -> QuantRecipe:
    """Parse `[quants.recipe]`."""
    # A tensor takes the first rule whose `match` its name contains (a regular expression).
    if table.has("mix"):
        return _mixed(table)
    recipe = QuantRecipe(
        basis=RecipeBasis(table.text("basis", pattern="published|assumed", like="published or assumed")),
        source=table.text("source"),
        rules=tuple(_rule(row) for row in table.tables("rules")),
    )
    table.finish()
    return recipe


def _mixed(table: TomlTable) -> QuantRecipe:
    label = table.text("mix")
    if label not in mix_labels():
        table.fail("mix", f"is {label!r}, none of {', '.join(mix_labels())}")
    table.finish()
    if is_uniform(label):
        source = f"every matrix of a {label} file has that type, by llama-quantize"
        if label == "MXFP4":
            source = "experts MXFP4 as released, the rest Q8_0 (llama.cpp discussion 15396)"
        return QuantRecipe(basis=RecipeBasis.PUBLISHED, source=source, rules=mix_rules(label))
    source = (
        f"only the size is published; assumed: types as {label} files mix them, as many of each as meet it"
    )
    return QuantRecipe(basis=RecipeBasis.ASSUMED, source=source, rules=mix_rules(label))


def _rule(table: TomlTable) -> TypeRule:
    match = table.text("match")
    names = table.texts("types")
    try:
        compile_foreign(match)
    except re.error as error:
        table.fail("match", f"is {match!r}, no regular expression: {error}")
    unknown = [name for name in names if name not in GgmlType.__members__]
    if unknown or not names:
        table.fail("types", f"is {list(names)}, not names of ggml types like Q4_0")
    table.finish()
    return TypeRule(match=match, types=tuple(GgmlType[name] for name in names))
