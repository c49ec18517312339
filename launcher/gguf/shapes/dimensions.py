"""Read a model's dimensions by name, and notice those that no builder asked for."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.errors import BadGguf
from launcher.gguf.metadata import MetadataScalar
from launcher.gguf.synthesis import MetadataValue, TensorFamily

_MOST = 1 << 31  # of any dimension: ggml's rows are counted in 31 bits here
_MOST_BLOCKS = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h


class Dimensions:
    """Whole numbers by name, as a config.json has them."""

    def __init__(self, architecture: str, values: Iterable[tuple[str, MetadataScalar]]) -> None:
        self.architecture = architecture
        self._values = dict(values)
        self._asked: set[str] = set()

    def __getitem__(self, name: str) -> int:
        """Return a dimension. Raises BadGguf for one that is missing or out of range."""
        value = self.get(name, -1)
        if name not in self._values:
            raise BadGguf(f"the shape of a {self.architecture} model needs {name}")
        return value

    def get(self, name: str, default: int) -> int:
        """Return a dimension, or `default` for one that is not given."""
        self._asked.add(name)
        value = self._values.get(name, default)
        most = _MOST_BLOCKS if name == "blocks" else _MOST
        if isinstance(value, bool) or not isinstance(value, int) or (name in self._values and value < 0):
            raise BadGguf(f"{name} is {value!r}, not a whole number")
        if value > most:
            raise BadGguf(f"{name} is {value}, and {most} is the most")
        return value

    def has(self, name: str) -> bool:
        """Return whether a switch is on: `tied = 1`."""
        return self.get(name, 0) > 0

    def check_all_asked(self) -> None:
        """Raise BadGguf for a dimension that this architecture does not have."""
        unknown = sorted(set(self._values) - self._asked)
        if unknown:
            raise BadGguf(f"the shape of a {self.architecture} model has no {unknown[0]}")


class Shape:
    """Metadata and tensors of a model, collected part by part."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.metadata: dict[str, MetadataValue] = {"general.architecture": architecture}
        self.families: list[TensorFamily] = []

    def set(self, **values: MetadataValue) -> None:
        """Set keys of this architecture: `attention__head_count` is `ARCH.attention.head_count`."""
        for name, value in values.items():
            self.metadata[f"{self.architecture}.{name.replace('__', '.')}"] = value

    def tensor(self, name: str, *shape: int) -> None:
        """Add one tensor."""
        self.families.append(TensorFamily(name=name, shape=shape))

    def blocks(self, first: int, last: int, **shapes: tuple[int, ...]) -> None:
        """Add a tensor in every block of a range: `attn_q` is `blk.{}.attn_q.weight`."""
        if last < first:
            return
        for name, shape in shapes.items():
            stem, dot, kind = name.replace("__", ".").rpartition(".")
            full = f"{stem}.{kind}" if dot else f"{kind}.weight"
            self.families.append(TensorFamily(name=f"blk.{{}}.{full}", shape=shape, first=first, last=last))
