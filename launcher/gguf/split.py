"""Check that shards fit together, as llama.cpp will when it loads them."""

# Source: the split part of `llama_model_loader::llama_model_loader` (src/llama-model-loader.cpp, 0c1e570).

from __future__ import annotations

from launcher.errors import BadGguf
from launcher.gguf.header import Header


def check_split(names: tuple[str, ...], headers: tuple[Header, ...]) -> None:
    """Raise BadGguf if the headers, in shard order, do not make one model."""
    claimed = max(_number(headers[0], "split.count", names[0]) or 1, 1)
    if claimed != len(headers):
        raise BadGguf(
            f"{names[0]} belongs to a model of {claimed} files, and {len(headers)} are here",
            hint="shards keep their names: X-00001-of-00003.gguf, all in one folder",
        )
    if len(headers) > 1:
        _check_numbers(names, headers)
    _check_tensors(names, headers)


def _check_numbers(names: tuple[str, ...], headers: tuple[Header, ...]) -> None:
    for index, (name, header) in enumerate(zip(names, headers, strict=True)):
        number = _number(header, "split.no", name)
        if number is None:
            raise BadGguf(f"{name} is named as a shard and has no split.no in its metadata")
        if number != index:
            raise BadGguf(
                f"{name} is shard {number + 1} by its metadata and {index + 1} by its name",
                hint="give the shards their own names back, or fetch them again",
            )


def _check_tensors(names: tuple[str, ...], headers: tuple[Header, ...]) -> None:
    owner: dict[str, str] = {}
    for name, header in zip(names, headers, strict=True):
        for tensor in header.tensors:
            if tensor.name in owner:
                raise BadGguf(f"tensor {tensor.name!r} is in {owner[tensor.name]} and in {name}")
            owner[tensor.name] = name
    expected = _number(headers[0], "split.tensors.count", names[0])
    if len(headers) > 1 and expected is not None and expected != len(owner):
        raise BadGguf(
            f"{names[0]} and its shards have {len(owner)} tensors, and split.tensors.count is {expected}",
            hint="the shards come from different versions of the model: fetch them again",
        )


def _number(header: Header, key: str, name: str) -> int | None:
    value = header.metadata.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadGguf(f"{key} of {name} must be a whole number")
    return value
