"""Saved headers are handed around: whatever is in the file, reading it is quick and small, and ends in a sentence."""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.models.saved import read_saved
from launcher.units import MIB
from tests.attacks.bounds import bounded, check_sentence
from tests.attacks.test_properties_claims import EXAMPLES, anything
from tests.builders import Tensor, build_header

HEADER = build_header({"a": 1}, [Tensor("t")])
GOOD = {"name": "m.gguf", "size_bytes": len(HEADER) + 128, "sha256": None}
MOST_BYTES = 16 * MIB

shards = st.just(GOOD) | st.fixed_dictionaries(
    {"name": anything | st.just("m.gguf"), "size_bytes": anything | st.just(len(HEADER) + 128)},
    optional={"sha256": anything | st.just("0" * 64)},
)
descriptions = anything | st.fixed_dictionaries(
    {
        "format": anything | st.just("gguf-launcher headers 1"),
        "model_id": anything | st.just("m"),
        "source": anything | st.just("path"),
        "shards": anything | st.lists(shards, max_size=3),
    }
)
members = st.dictionaries(
    st.sampled_from(["model.json", "header-00001", "header-00002", "../x", "/etc/x", "a\nb"]),
    st.just(HEADER) | st.binary(max_size=400) | st.just(bytes(200_000)),
    max_size=4,
)


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.headers"
        path.write_bytes(content)
        with bounded(MOST_BYTES):
            try:
                located = read_saved(path)
            except UsageError as error:
                check_sentence(error.message)
            else:
                assert len(located.raw_headers) == len(located.model.shards) > 0
                assert all(0 <= shard.size_bytes < 1 << 63 for shard in located.model.shards)


def zipped(content: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        file.seek(0)
        return file.read()


@EXAMPLES
@given(descriptions, members)
def test_archives_of_anything(description: Any, content: dict[str, bytes]) -> None:
    text = b""
    with contextlib.suppress(UnicodeEncodeError):
        text = json.dumps(description).encode()
    read(zipped({"header-00001": HEADER, **content, "model.json": text}))


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6), st.integers(0, 10_000))
def test_archives_that_are_damaged(changes: list[tuple[int, int]], cut: int) -> None:
    description = {"format": "gguf-launcher headers 1", "model_id": "m", "source": "path", "shards": [GOOD]}
    good = zipped({"model.json": json.dumps(description).encode(), "header-00001": HEADER})
    data = bytearray(good)
    for at, value in changes:
        data[at % len(data)] = value
    read(bytes(data))
    read(good[: cut % len(good)])
    read(good)


@EXAMPLES
@given(st.binary(max_size=3000))
def test_bytes_of_any_kind(content: bytes) -> None:
    read(b"PK\x03\x04" + content)
    read(b"PK\x03\x04" + content + b"PK\x05\x06" + content[:18].ljust(18, b"\xff"))
