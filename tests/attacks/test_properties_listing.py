"""The Hub's answers may be anybody's: whatever is in them, parsing is quick, small, and a value or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from launcher.models.hub.api_json import COMMIT, SHA256, TreePage, parse_commit, parse_page
from launcher.system.json_object import Malformed
from launcher.system.network.answer import ResponseHead, find_range_trouble, retry_after_s
from launcher.system.network.policy import LOOK_UP, wait_after
from launcher.system.network.trouble import Trouble, TroubleKind
from tests.attacks.bounds import bounded, check_sentence
from tests.attacks.test_properties_claims import EXAMPLES, anything

hashes = st.sampled_from(["a" * 64, "A" * 64, "a" * 65, ""])
files = st.fixed_dictionaries(
    {"type": anything | st.just("file"), "path": anything | st.sampled_from(["m.gguf", "../m.gguf", "a"])},
    optional={
        "size": anything | st.integers(-1, 1 << 64),
        "lfs": anything | st.fixed_dictionaries({}, optional={"oid": anything | hashes}),
    },
)
links = st.text(max_size=300) | st.builds('<{}>; rel="next"'.format, st.text(max_size=100))


def parsed(parse: Callable[[], TreePage | str]) -> TreePage | str | None:
    with bounded():
        try:
            return parse()
        except Malformed as error:
            check_sentence(str(error), 500)
            return None


def check_page(body: bytes, link: str) -> None:
    page = parsed(lambda: parse_page(body, link))
    if isinstance(page, TreePage):
        assert len(page.files) <= page.n_entries
        assert all(0 <= file.size_bytes < 1 << 63 for file in page.files)
        assert all(file.name.lower().endswith(".gguf") for file in page.files)
        assert all(file.sha256 is None or SHA256.fullmatch(file.sha256) for file in page.files)
        assert page.next_url is None or "<" not in page.next_url


@EXAMPLES
@given(anything | st.lists(anything | files, max_size=20), links)
def test_what_is_nearly_a_page(document: object, link: str) -> None:
    check_page(json.dumps(document).encode(), link)


@EXAMPLES
@given(anything | st.fixed_dictionaries({"sha": anything | st.sampled_from(["a" * 40, "a" * 41])}))
def test_what_is_nearly_a_commit(document: object) -> None:
    commit = parsed(lambda: parse_commit(json.dumps(document).encode()))
    assert commit is None or (isinstance(commit, str) and COMMIT.fullmatch(commit))


@EXAMPLES
@given(st.binary(max_size=1 << 14), links)
def test_bytes(body: bytes, link: str) -> None:
    check_page(body, link)
    parsed(lambda: parse_commit(body))


numbers = st.integers(-1, 10**30).map(str) | st.sampled_from(["", "9" * 5000, "٣", "1e9", "-0", " 7"])
ranges = st.builds("bytes {}-{}/{}".format, numbers, numbers, numbers) | st.text(max_size=50)
dates = st.sampled_from(["Sun, 22 Nov 2026 12:01:30 GMT", "Sun, 22 Nov 99999999999 11:00:00 GMT", "x" * 1000])
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-range": ranges,
        "content-length": numbers,
        "content-encoding": st.sampled_from(["identity", "gzip", ""]),
        "retry-after": numbers | dates | st.text(max_size=50),
        "ratelimit": st.builds('"api";r=0;t={}'.format, numbers) | st.text(max_size=50),
        "etag": st.text(max_size=20),
    },
)


@EXAMPLES
@given(st.integers(100, 999), headers, st.integers(0, 1 << 62), st.none() | st.integers(0, 1 << 62))
def test_heads(status: int, found: dict[str, str], position: int, size: int | None) -> None:
    head = ResponseHead(status=status, headers=found, url="http://h/x", redirected=False)
    now = datetime(2026, 11, 22, tzinfo=UTC)
    trouble = find_range_trouble(head, position=position, size_bytes=size, now=now)
    if trouble is None:
        assert status in {200, 206}
        assert head.range_begin == position
        assert size is None or head.file_size in {None, size}
    else:
        assert trouble.reason.isprintable()
    asked = retry_after_s(found, now)
    assert asked is None or 0 <= asked <= 1e12


@EXAMPLES
@given(
    st.sampled_from(list(TroubleKind)),
    st.none() | st.floats(0, 1e9),
    st.integers(0, 20),
    st.floats(0, 0.999),
    st.floats(0, 1e6),
)
def test_every_wait_is_bounded_and_comes_to_an_end(
    kind: TroubleKind, asked: float | None, failures: int, dice: float, elapsed_s: float
) -> None:
    trouble = Trouble(kind=kind, reason="x", retry_after_s=asked)
    wait = wait_after(trouble, failures, LOOK_UP, dice, elapsed_s)
    if wait is not None:
        assert 0 <= wait <= max(LOOK_UP.longest_wait_s, 1.5 * LOOK_UP.longest_backoff_s)
        assert wait >= (asked or 0)
        assert elapsed_s + wait < LOOK_UP.deadline_s
        assert failures + 1 < LOOK_UP.attempts
        assert not trouble.is_final
