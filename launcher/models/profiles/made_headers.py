"""Make a quant's header from its published architecture and recipe. Pure."""

from __future__ import annotations

from launcher.errors import LauncherError
from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import RECIPE_SOURCE, ModelFile, Shard
from launcher.gguf.shapes.build import build_shape
from launcher.gguf.synthesis import assign_types, header_bytes, raise_types
from launcher.models.profiles.profile import (
    ModelProfile,
    ProfileQuant,
    PublishedArchitecture,
    PublishedShape,
    RecipeBasis,
)


def make_headers(profile: ModelProfile, quant: ProfileQuant) -> tuple[ModelFile, bytes, str] | None:
    """Make a quant's model, its raw header, and the note its plan must show; None without a recipe.

    Raises BadGguf for a recipe that leaves a tensor out or does not meet the file's size.
    """
    recipe = quant.recipe
    if profile.architecture is None or recipe is None:
        return None
    architecture = _built(profile.architecture)
    tensors = assign_types(architecture.families, recipe.rules)
    raw = header_bytes(architecture.metadata, tensors)
    if recipe.basis is RecipeBasis.ASSUMED and quant.size_bytes is not None:
        tensor_bytes = quant.size_bytes - len(raw)  # types change nothing in a header's length
        tensors = raise_types(tensors, recipe.rules, tensor_bytes)
        raw = header_bytes(architecture.metadata, tensors)
    header = parse_header(raw)
    if not isinstance(header, Header):
        raise LauncherError(f"the header made for {profile.name} {quant.name} is not whole")
    model = ModelFile(
        model_id=profile.name,
        source=f"{RECIPE_SOURCE}{profile.name}:{quant.label}",
        shards=(Shard(name=f"{quant.label}.gguf", size_bytes=max(quant.size_bytes or 0, header.end)),),
        headers=(header,),
        assumed_types=recipe.basis is RecipeBasis.ASSUMED,
    )
    how = "as published" if recipe.basis is RecipeBasis.PUBLISHED else "assumed"
    return model, raw, f"estimated from published architecture, tensor types {how}: {recipe.source}"


def _built(published: PublishedArchitecture | PublishedShape) -> PublishedArchitecture:
    if isinstance(published, PublishedArchitecture):
        return published
    shape = build_shape(published.architecture, published.dimensions)
    return PublishedArchitecture(
        source=published.source, metadata=tuple(shape.metadata.items()), families=tuple(shape.families)
    )
