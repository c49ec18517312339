"""Read the metadata keys of one architecture (`deepseek2.block_count`), checking types and limits."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.errors import BadGguf
from launcher.gguf.cursor import quoted
from launcher.gguf.header import SkippedArray, Value
from launcher.gguf.known_architectures import ARCHITECTURES, COMMIT

_U32_MAX = (1 << 32) - 1


class ArchitectureKeys:
    """The metadata keys that begin with the architecture's name.

    Readers return None for a missing key and raise BadGguf for a value of the wrong type.
    """

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        name = metadata.get("general.architecture")
        if not isinstance(name, str) or not name:
            raise BadGguf("general.architecture is missing: the file does not say which model it is")
        self.name = name
        self._metadata = metadata

    def number(self, key: str, most: int = _U32_MAX) -> int | None:
        value = self._metadata.get(f"{self.name}.{key}")
        return None if value is None else self._whole(key, value, most)

    def required(self, key: str, most: int = _U32_MAX) -> int:
        value = self.number(key, most)
        if value is None and self.name not in ARCHITECTURES:
            # an unknown architecture with all its numbers is read: a newer engine may know it
            raise BadGguf(
                f"unknown model architecture {quoted(self.name)} (llama.cpp {COMMIT})",
                hint="use a newer engine: --engine PATH, or look for another file of this model",
            )
        if value is None:
            raise BadGguf(f"{self.name}.{key} is missing, and llama.cpp needs it")
        return value

    def per_block(self, key: str, n_block: int) -> tuple[int, ...] | None:
        """Return one number per block. A file has one for all, or an array.

        As `llama_model_loader::get_key_or_arr` (src/llama-model-loader.cpp).
        """
        value = self._metadata.get(f"{self.name}.{key}")
        if value is None:
            return None
        if isinstance(value, SkippedArray):
            raise BadGguf(f"{self.name}.{key} has {value.length} items, and the model {n_block} blocks")
        if not isinstance(value, tuple):
            return (self._whole(key, value, _U32_MAX),) * n_block
        if len(value) != n_block:
            raise BadGguf(f"{self.name}.{key} has {len(value)} items, and the model {n_block} blocks")
        return tuple(self._whole(key, item, _U32_MAX) for item in value)

    def flags(self, key: str, n_block: int) -> tuple[bool, ...] | None:
        """Return a flag a block if the file has an array of them; flags missing at its end are off."""
        value = self._metadata.get(f"{self.name}.{key}")
        if not isinstance(value, tuple):
            return None
        flags = tuple(
            bool(self._whole(key, int(item) if isinstance(item, bool) else item, 1)) for item in value
        )
        return (flags + (False,) * n_block)[:n_block]

    def _whole(self, key: str, value: object, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadGguf(f"{self.name}.{key} must be a whole number and is {_shortened(value)}")
        if not 0 <= value <= most:
            raise BadGguf(f"{self.name}.{key} is {value}, and must be from 0 to {most}")
        return value


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
