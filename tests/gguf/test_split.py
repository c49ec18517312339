from __future__ import annotations

from collections.abc import Mapping

import pytest

from launcher.errors import BadGguf
from launcher.gguf.header import Header, parse_header
from launcher.gguf.split import check_split
from tests.builders import Tensor, build_header
from tests.make_gguf import make_shards


def header(metadata: Mapping[str, object], *tensors: str) -> Header:
    parsed = parse_header(build_header(metadata, [Tensor(name) for name in tensors]))
    assert isinstance(parsed, Header)
    return parsed


def test_shards_that_fit_together() -> None:
    shards = make_shards("deepseek2", splits=3)
    headers = tuple(parse_header(shard.header) for shard in shards)
    check_split(
        tuple(shard.name for shard in shards), tuple(one for one in headers if isinstance(one, Header))
    )


def test_a_whole_file() -> None:
    check_split(("m.gguf",), (header({}, "a"),))
    check_split(("m.gguf",), (header({"split.count": 0}, "a"),))
    check_split(("m.gguf",), (header({"split.count": 1}, "a"),))
    check_split(("m.gguf",), (header({"split.count": 1, "split.tensors.count": 9}, "a"),))


SECOND = header({"split.no": 1}, "b")


@pytest.mark.parametrize("count", [{}, {"split.tensors.count": 2}])
def test_two_shards_with_all_their_tensors(count: dict[str, object]) -> None:
    check_split(("s1", "s2"), (header({"split.count": 2, "split.no": 0, **count}, "a"), SECOND))


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((header({"split.count": 3}, "a"),), "belongs to a model of 3 files, and 1 are here"),
        ((header({"split.no": 0}, "a"), SECOND), "belongs to a model of 1 files, and 2"),
        ((header({"split.count": 2}, "a"), SECOND), "has no split.no"),
        (
            (header({"split.count": 2, "split.no": 1}, "a"), SECOND),
            "is shard 2 by its metadata and 1 by its name",
        ),
        ((header({"split.count": "2"}, "a"), SECOND), "must be a whole number"),
        ((header({"split.count": 2, "split.no": True}, "a"), SECOND), "must be a whole number"),
        ((header({"split.count": 2, "split.no": 0}, "b"), SECOND), "tensor 'b' is in s1 and in s2"),
        (
            (header({"split.count": 2, "split.no": 0, "split.tensors.count": 1}, "a"), SECOND),
            "have 2 tensors, and split.tensors.count is 1",
        ),
        (
            (header({"split.count": 2, "split.no": 0, "split.tensors.count": 9}, "a"), SECOND),
            "have 2 tensors, and split.tensors.count is 9",
        ),
    ],
)
def test_shards_that_do_not(headers: tuple[Header, ...], words: str) -> None:
    with pytest.raises(BadGguf) as caught:
        check_split(("s1", "s2")[: len(headers)], headers)
    assert words in caught.value.message
