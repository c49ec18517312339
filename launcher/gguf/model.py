"""What a model is: its files, and their headers as one model. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.gguf.header import Header, TensorInfo, Value

RECIPE_SOURCE = "recipe:"
"""How the `source` of such a model begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a model: its name inside the repo or folder (`UD-TQ1_0/X-00001-of-00005.gguf`), its true
    size, and the sha256 the source vouches for, None where it vouches for none."""

    name: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One quant of one model, one file or several shards, in shard order, each with its header.

    `source` says where it was read from (`hub:user/repo@commit`, `path`, `url`, `wheel:name==version`). `assumed_types`: the
    total is known, the tensors' types are not.
    """

    model_id: str
    source: str
    shards: tuple[Shard, ...]
    headers: tuple[Header, ...]
    assumed_types: bool = False

    @property
    def metadata(self) -> Mapping[str, Value]:
        """The first shard's metadata: the model's own (the others carry `split.*` only)."""
        return self.headers[0].metadata

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """All tensors of all shards, in file order."""
        return tuple(tensor for header in self.headers for tensor in header.tensors)

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(shard.size_bytes for shard in self.shards)
