"""Represent a model: its files, and their headers as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.gguf.header import Header, TensorInfo, Value

RECIPE_SOURCE = "recipe:"  # begins the `source` of a model whose headers were made from a recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    name: str  # inside the repo or folder: UD-TQ1_0/X-00001-of-00005.gguf
    size_bytes: int
    sha256: str | None = None  # as the source gives it, None if it gives none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One quant of one model: one file or several shards, in shard order, each with its header."""

    model_id: str
    source: str  # hub:user/repo@commit, path, url, wheel:name==version, recipe:…
    shards: tuple[Shard, ...]
    headers: tuple[Header, ...]
    assumed_types: bool = False  # the total size is known, the types of the tensors are not

    @property
    def metadata(self) -> Mapping[str, Value]:
        """The model's own metadata, which the first shard holds (the others have `split.*` only)."""
        return self.headers[0].metadata

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors of all shards, in file order."""
        return tuple(tensor for header in self.headers for tensor in header.tensors)

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)
