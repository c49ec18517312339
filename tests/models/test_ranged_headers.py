from __future__ import annotations

import random

import pytest

from launcher.errors import BadGguf
from launcher.gguf.header import MAX_HEADER_BYTES, parse_header
from launcher.gguf.model import Shard
from launcher.models.located import LocalFiles
from launcher.models.ranged_headers import SLACK_BYTES, assemble, read_header
from tests.builders import Tensor, build_header
from tests.make_gguf import make_shards


class Bytes:
    """A ByteSource over bytes that notes what was read; `known` is whether it knows its size beforehand."""

    def __init__(self, content: bytes, *, size: int | None = None, known: bool = True) -> None:
        self.content = content
        self.name = "model.gguf"
        self._size = len(content) if size is None else size
        self.size_bytes = self._size if known else None
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        self.size_bytes = self._size
        piece = self.content[offset : offset + length]
        return piece + bytes(min(self._size, offset + length) - offset - len(piece))


KIMI = make_shards("deepseek2", preset="kimi-k2.5", vocabulary="bpe")[0]


@pytest.mark.parametrize("known", [True, False])
def test_a_large_header_takes_few_rounds_and_little_waste(known: bool) -> None:
    source = Bytes(KIMI.header, size=KIMI.size_bytes, known=known)
    header, raw = read_header(source)
    assert header == parse_header(KIMI.header)
    assert raw == KIMI.header
    assert sum(length for _, length in source.reads) <= len(KIMI.header) + SLACK_BYTES
    assert len(source.reads) <= 10
    assert [offset for offset, _ in source.reads] == [
        sum(length for _, length in source.reads[:index]) for index in range(len(source.reads))
    ]


def test_no_vocabulary_makes_it_read_far_past_the_header() -> None:
    chance = random.Random(2)
    for _ in range(20):
        tokens = ["t" * chance.randrange(0, 400) for _ in range(chance.randrange(1, 3000))]
        tokens.sort(key=len, reverse=chance.random() < 0.5)
        header = build_header({"tokens": tokens, "kinds": [1] * len(tokens)}, [Tensor("t", (1 << 20,))])
        source = Bytes(header, size=len(header) + (4 << 20))
        assert read_header(source)[1] == header
        assert sum(length for _, length in source.reads) <= len(header) + SLACK_BYTES


def test_a_small_header_takes_one_read() -> None:
    shard = make_shards("deepseek2", splits=3)[1]
    source = Bytes(shard.header, size=shard.size_bytes)
    read_header(source)
    assert source.reads == [(0, SLACK_BYTES)]


def test_a_tiny_file_is_read_whole_and_never_past_its_end() -> None:
    header = build_header({"a": 1}, [Tensor("t")])
    source = Bytes(header + bytes(128))
    assert read_header(source)[1] == header
    assert source.reads == [(0, len(header) + 128)]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cut", [0, 3, 23, 100, 2000, 70_000, 500_000])
def test_a_header_that_breaks_off_is_named_with_size_and_need(cut: int, known: bool) -> None:
    with pytest.raises(BadGguf) as caught:
        read_header(Bytes(KIMI.header[:cut], known=known))
    assert "model.gguf is" in caught.value.message
    assert (f"it has {cut} bytes, and its header alone needs" if cut else "empty") in caught.value.message
    assert caught.value.hint == "fetch it again"


def test_tensors_that_end_beyond_the_file() -> None:
    header = build_header({"a": 1}, [Tensor("t", (100,))])
    assert read_header(Bytes(header + bytes(400)))[0].end == len(header) + 400
    with pytest.raises(
        BadGguf, match=f"it has {len(header) + 399} bytes, and its tensors need {len(header) + 400}"
    ):
        read_header(Bytes(header + bytes(399)))


def test_what_is_wrong_inside_is_said_of_the_file() -> None:
    with pytest.raises(BadGguf, match=r"^model\.gguf: it is a zip archive") as caught:
        read_header(Bytes(b"PK\x03\x04" + bytes(100)))
    assert caught.value.hint


def test_a_hostile_claim_is_read_in_pieces() -> None:
    claim = build_header({"a": "x" * 100})
    liar = claim[:-108] + (MAX_HEADER_BYTES - 1000).to_bytes(8, "little")
    source = Bytes(liar, size=MAX_HEADER_BYTES * 2)
    header, _ = read_header(source)
    assert header.tensors == ()
    assert max(length for _, length in source.reads) <= 8 << 20


def test_shards_are_assembled_into_one_model() -> None:
    shards = make_shards("deepseek2", splits=2)
    located = assemble(
        model_id="m",
        source="here",
        shards=tuple(Shard(name=shard.name, size_bytes=shard.size_bytes) for shard in shards),
        read=tuple(read_header(Bytes(shard.header, size=shard.size_bytes)) for shard in shards),
        files=LocalFiles(paths=()),
    )
    assert located.model.size_bytes == sum(shard.size_bytes for shard in shards)
    assert located.raw_headers == tuple(shard.header for shard in shards)
    assert len(located.model.tensors) == sum(len(shard.tensors) for shard in shards)
