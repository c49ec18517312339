from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engine.sources.release_json import parse_builds, parse_pointer, parse_release
from launcher.engine.sources.releases import resolved

URL = "https://api.example/releases"
ASSET = {
    "name": "llama-b1-bin-ubuntu-x64.tar.gz",
    "size": 17,
    "digest": "sha256:" + "aB" * 32,
    "browser_download_url": "https://example/x",
}


def files(**changes: object) -> list[object]:
    document = {"tag_name": "b1", "assets": [{**ASSET, **changes}]}
    return list(resolved(parse_release(json.dumps(document).encode()), URL).files)


def test_a_file() -> None:
    release = parse_release(json.dumps({"tag_name": "b1", "assets": [ASSET]}).encode())
    (file,) = release.files
    assert (file.name, file.size_bytes, file.sha256) == (ASSET["name"], 17, "ab" * 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../etc/passwd"},
        {"name": ".hidden"},
        {"name": "a/b"},
        {"name": 7},
        {"name": "x" * 300},
        {"size": -1},
        {"size": 0},
        {"size": True},
        {"size": 1 << 50},
        {"size": "17"},
        {"browser_download_url": "file:///etc/passwd"},
        {"browser_download_url": "http://example/x"},  # listed over https
        {"browser_download_url": None},
    ],
)
def test_what_cannot_be_a_file_is_passed_over(changes: dict[str, object]) -> None:
    assert files(**changes) == []


@pytest.mark.parametrize("digest", [None, "", "sha512:" + "a" * 128, "sha256:short", 5, "md5:" + "a" * 64])
def test_a_digest_that_is_no_sha256_is_none(digest: object) -> None:
    (file,) = files(digest=digest)
    assert file.sha256 is None  # type: ignore[attr-defined]


def test_an_address_may_be_relative_to_the_mirror() -> None:
    (file,) = files(browser_download_url="files/x")
    assert file.url == "https://api.example/files/x"  # type: ignore[attr-defined]


def test_of_two_files_with_one_name_the_first_counts() -> None:
    document = {"tag_name": "b1", "assets": [ASSET, {**ASSET, "size": 99}]}
    (file,) = parse_release(json.dumps(document).encode()).files
    assert file.size_bytes == 17


def test_only_builds_are_listed_the_newest_first() -> None:
    tags = ("v1.2.0", "b9", "b11026", "b10999", "master")
    body = json.dumps([{"tag_name": tag, "assets": []} for tag in tags]).encode()
    assert [release.tag for release in parse_builds(body)] == ["b11026", "b10999", "b9"]


@pytest.mark.parametrize(
    "text", [b"", b"latest", b"b", b"b1; rm", b"b" + b"1" * 40, b"\xff", b"b1\nb2", b"v1.2"]
)
def test_a_pointer_that_is_no_tag(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (its words are the reader's)
        parse_pointer(text)
    assert parse_pointer(b"b11026\n") == "b11026"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["tag_name", "assets", "name", "size", "digest", "browser_download_url"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_parsed_or_refused(document: object) -> None:
    body = json.dumps(document).encode()
    for parse in (parse_release, parse_builds):
        with contextlib.suppress(ValueError):
            parse(body)
