"""Headers that claim much, are made of many pieces, or come in many files: few rounds, little memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from pathlib import Path

import pytest

from launcher.errors import BadGguf
from launcher.gguf.file_names import MAX_SHARDS, group_files, shard_name
from launcher.gguf.header import (
    MAX_KEYS_BYTES,
    HeaderReader,
    NeedMore,
    ValueType,
    parse_header,
)
from launcher.models.header_memory import HEADER_MEMORY, HeaderMemory
from launcher.models.local import open_path
from launcher.models.ranged_headers import read_header
from launcher.models.url import shard_urls
from launcher.units import MIB
from tests.builders import Tensor, Typed, build_header

MOST_ROUNDS = 28
MOST_SECONDS = 20.0  # only the unbounded is meant: it took minutes


class Counted:
    """A file in memory that counts how often it is asked."""

    def __init__(self, content: bytes) -> None:
        self.name = "m.gguf"
        self.size_bytes: int | None = len(content)
        self._content = content
        self.rounds = 0
        self.n_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        self.rounds += 1
        piece = self._content[offset : offset + length]
        self.n_bytes += len(piece)
        return piece


def keys(count: int, size: int, byte: bytes) -> bytes:
    return build_header((b"%07d" % index + byte * size, Typed(ValueType.U8, 1)) for index in range(count))


@pytest.mark.parametrize("byte", [b"k", b"\xff"])
@pytest.mark.parametrize(("count", "size"), [(700, 60_000), (16_000, 2900)])
def test_keys_of_many_megabytes_are_refused_early(byte: bytes, count: int, size: int) -> None:
    source = Counted(keys(count, size, byte))
    began = time.monotonic()
    with pytest.raises(BadGguf, match=f"and {MAX_KEYS_BYTES} is the most this reader takes") as caught:
        read_header(source)
    assert time.monotonic() - began < MOST_SECONDS
    assert source.rounds < MOST_ROUNDS
    assert source.n_bytes < 2 * MAX_KEYS_BYTES
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "values",
    [
        [(f"s{index}", "v" * 60_000) for index in range(700)],
        [("a", ["t" * 60_000] * 700)],
        [(f"a{index}", Typed(ValueType.U8, [1] * 2500)) for index in range(16_000)],
    ],
    ids=["strings", "array", "arrays"],
)
def test_a_header_of_any_making_takes_few_rounds_and_is_stepped_over_once(
    values: list[tuple[str, object]],
) -> None:
    content = build_header(values)
    source = Counted(content)
    began = time.monotonic()
    header, raw = read_header(source)
    assert time.monotonic() - began < MOST_SECONDS
    assert raw == content
    assert len(header.metadata) == len(values)
    assert source.rounds < MOST_ROUNDS
    assert source.n_bytes == len(content)


def test_what_was_read_is_not_read_again() -> None:
    content = build_header({"a": ["t"] * 50_000, "b": 1}, [Tensor(f"t{index}") for index in range(500)])
    reader, whole = HeaderReader(), parse_header(content)
    answers = [reader.read_on(content[:cut]) for cut in range(1, len(content), 4999)]
    assert all(isinstance(answer, NeedMore) for answer in answers)
    assert reader.read_on(content) == whole


def test_each_round_asks_for_more_than_is_here_and_for_header_only() -> None:
    content = build_header({"a": ["token"] * 300, "b": "x" * 500}, [Tensor("t")])
    reader = HeaderReader()
    answers = [reader.read_on(content[:cut]) for cut in range(len(content))]
    needs = [answer.n_bytes for answer in answers if isinstance(answer, NeedMore)]
    assert len(needs) == len(content)
    assert all(cut < need <= len(content) for cut, need in enumerate(needs))


def sized(n_bytes: int) -> bytes:
    content = build_header({"a": "x" * n_bytes})
    assert len(content) > n_bytes
    return content


def test_headers_that_are_alive_are_bounded_together() -> None:
    memory = HeaderMemory(most_bytes=10 * MIB)
    content = sized(4 * MIB)
    kept = [read_header(Counted(content), memory=memory) for _ in range(2)]
    with pytest.raises(BadGguf, match=r"more than 10\.0 MiB") as caught:
        read_header(Counted(content), memory=memory)
    assert caught.value.message.startswith("m.gguf: ")
    assert 8 * MIB < memory.taken_bytes < 9 * MIB
    kept.clear()
    gc.collect()
    assert memory.taken_bytes == 0
    read_header(Counted(content), memory=memory)


def test_tensors_count_as_memory_too() -> None:
    content = build_header({}, [Tensor(f"t{index}", (0,)) for index in range(5000)])
    memory = HeaderMemory(most_bytes=6 * MIB)
    header, _ = read_header(Counted(content), memory=memory)
    with pytest.raises(BadGguf, match="headers read so far"):
        read_header(Counted(content), memory=memory)
    assert len(header.tensors) == 5000


@pytest.mark.parametrize("content", [b"GGUF" + bytes(5), b"nothing", build_header({}, [Tensor("t")])])
def test_a_header_that_was_refused_holds_no_memory(content: bytes) -> None:
    memory = HeaderMemory()
    with pytest.raises(BadGguf):
        read_header(Counted(content), memory=memory)
    assert memory.taken_bytes == 0


def test_a_split_of_large_headers_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    content = sized(45 * MIB)
    first = tmp_path / "m-00001-of-00024.gguf"
    first.write_bytes(content)
    for index in range(2, 25):
        (tmp_path / f"m-{index:05d}-of-00024.gguf").hardlink_to(first)
    del content
    gc.collect()
    before = HEADER_MEMORY.taken_bytes
    tracemalloc.start()
    try:
        with pytest.raises(BadGguf, match="headers read so far take"):
            open_path(first)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 130 * MIB
    gc.collect()
    assert HEADER_MEMORY.taken_bytes == before


def test_a_name_cannot_ask_for_a_hundred_thousand_shards(tmp_path: Path) -> None:
    name = "m-00001-of-99999.gguf"
    (tmp_path / name).touch()
    with pytest.raises(BadGguf, match=f"one of 99999 shards, and {MAX_SHARDS} are the most"):
        open_path(tmp_path / name)
    with pytest.raises(BadGguf, match=f"one of 99999 shards, and {MAX_SHARDS} are the most"):
        shard_urls(f"https://host/{name}")


def test_a_listing_of_sets_that_lack_nearly_all_costs_little() -> None:
    began = time.monotonic()
    groups = group_files((f"m{index}-00001-of-99999.gguf", 1) for index in range(20_000))
    assert time.monotonic() - began < MOST_SECONDS
    assert {(group.n_missing, group.first_missing[-20:]) for group in groups} == {
        (99_998, "-00002-of-99999.gguf")
    }


@pytest.mark.parametrize(
    "digits", ["\u0660\u0660\u0660\u0660\u0661", "\uff10\uff10\uff10\uff10\uff11", "\u00b20001"]
)
def test_digits_of_other_scripts_number_no_shard(digits: str) -> None:
    assert shard_name(f"m-{digits}-of-00002.gguf") is None
