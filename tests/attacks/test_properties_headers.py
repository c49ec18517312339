"""A header comes from anywhere: whatever is in it, reading it is quick and small, and ends in a value or a sentence."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import BadGguf
from launcher.gguf.anatomy import dissect
from launcher.gguf.header import Header, HeaderReader, NeedMore, ValueType, parse_header
from launcher.models.header_memory import HeaderMemory
from launcher.models.ranged_headers import HeldBytes, read_header
from launcher.units import MIB
from tests.attacks.bounds import bounded, check_sentence
from tests.attacks.test_properties_claims import EXAMPLES
from tests.builders import Tensor, Typed, build_header

MOST_BYTES = 64 * MIB
ARCHITECTURE = "llama"
hostile = st.sampled_from(
    [
        b"",
        b"a" * 70_000,
        b"\xff\xfe",
        b"\x1b[31m\nhint: x",
        b"blk.0000.ffn_up_exps.weight",
        b"\0",
        b"output.weight\0",
    ]
)
names = hostile | st.binary(max_size=80) | st.sampled_from([b"token_embd.weight", b"blk.0.attn_q.weight"])
numbers = st.integers(0, 2**64 - 1)
typed = st.one_of(
    st.builds(Typed, st.just(ValueType.U32), st.integers(0, 2**32 - 1)),
    st.builds(Typed, st.just(ValueType.U64), numbers),
    st.builds(Typed, st.just(ValueType.F32), st.floats(width=32)),
    st.builds(Typed, st.just(ValueType.STRING), st.binary(max_size=300)),
    st.builds(Typed, st.just(ValueType.STRING), st.lists(st.binary(max_size=30), max_size=40)),
    st.builds(Typed, st.just(ValueType.U8), st.lists(st.integers(0, 255), max_size=5000)),
)
keys = st.sampled_from(
    [
        f"{ARCHITECTURE}.{key}".encode()
        for key in (
            "block_count", "embedding_length", "context_length", "attention.head_count", "expert_count",
            "attention.head_count_kv", "feed_forward_length", "attention.key_length", "expert_used_count",
        )
    ]
)  # fmt: skip
pairs = st.lists(st.tuples(keys | names | st.just(b"general.alignment"), typed), max_size=12)
tensors = st.lists(
    st.builds(
        Tensor,
        names,
        st.lists(numbers.map(lambda number: number - 2**63), max_size=5).map(tuple),
        st.just(0),
        st.none() | numbers,
    ),
    max_size=6,
)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    infos = [Tensor(tensor.name, tensor.shape, tensor.type, tensor.offset or 0) for tensor in draw(tensors)]
    start = [(b"general.architecture", ARCHITECTURE)] if draw(st.booleans()) else []
    return build_header(
        [*start, *draw(pairs)],
        infos,
        n_kv=draw(st.none() | numbers),
        n_tensors=draw(st.none() | numbers),
        version=draw(st.sampled_from([2, 3, 3, 3, 1, 2**32 - 1])),
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(
        build_header({"general.architecture": ARCHITECTURE, "a": ["t"] * 9}, [Tensor("t"), Tensor("u")])
    )
    for at, value in draw(
        st.lists(st.tuples(st.integers(4, len(data) - 1), st.integers(0, 255)), max_size=8)
    ):
        data[at] = value
    return bytes(data)


def measured(data: bytes) -> Header | NeedMore | None:
    with bounded(MOST_BYTES):
        try:
            return parse_header(data)
        except BadGguf as error:
            check_sentence(error.message)
            return None


def check(data: bytes) -> None:
    header = measured(data)
    if isinstance(header, NeedMore):
        assert header.n_bytes > len(data)
    if not isinstance(header, Header):
        return
    assert all(tensor.name.isprintable() and tensor.size_bytes >= 0 for tensor in header.tensors)
    assert len({tensor.name for tensor in header.tensors}) == len(header.tensors)
    ends = [(one.offset + one.size_bytes, two.offset) for one, two in pairwise(header.tensors)]
    assert all(end <= begin for end, begin in ends)
    try:
        dissect(header.metadata, header.tensors)
    except BadGguf as error:
        check_sentence(error.message)


@EXAMPLES
@given(headers())
def test_headers_that_claim_anything(data: bytes) -> None:
    check(data)


@EXAMPLES
@given(damaged())
def test_headers_that_are_damaged(data: bytes) -> None:
    check(data)


@EXAMPLES
@given(st.binary(max_size=2000).map(lambda rest: b"GGUF\x03\0\0\0" + rest))
def test_bytes_after_the_magic(data: bytes) -> None:
    check(data)


@EXAMPLES
@given(headers() | damaged(), st.lists(st.integers(0, 400), max_size=8))
def test_in_pieces_it_is_the_same_as_whole(data: bytes, cuts: list[int]) -> None:
    def outcome(reader: HeaderReader, upto: int) -> object:
        try:
            return reader.read_on(data[:upto])
        except BadGguf as error:
            return error.message

    whole, reader = outcome(HeaderReader(), len(data)), HeaderReader()
    for cut in sorted(cut for cut in cuts if cut < len(data)):
        piece = outcome(reader, cut)
        if not isinstance(piece, NeedMore):
            assert repr(piece) == repr(whole)  # repr: a NaN is no equal of itself
            return
    assert repr(outcome(reader, len(data))) == repr(whole)


@EXAMPLES
@given(headers() | damaged(), st.integers(0, 2**64))
def test_whatever_is_refused_holds_no_memory(data: bytes, size_bytes: int) -> None:
    memory = HeaderMemory()
    try:
        header, raw = read_header(HeldBytes(name="m", content=data, size_bytes=size_bytes), memory=memory)
    except BadGguf as error:
        check_sentence(error.message)
        assert memory.taken_bytes == 0
    else:
        assert data.startswith(raw)
        assert memory.taken_bytes >= len(raw)
        del header
        assert memory.taken_bytes == 0
