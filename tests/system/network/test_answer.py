"""What answers to ranged requests mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from launcher.system.network.answer import ResponseHead, find_range_trouble, retry_after_s
from launcher.system.network.trouble import TroubleKind

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
RIGHT = {"content-range": "bytes 50-99/100", "content-length": "50"}


def kind(
    status: int, headers: dict[str, str], *, position: int = 50, redirected: bool = True
) -> TroubleKind | None:
    head = ResponseHead(status=status, headers=headers, url="http://h/x", redirected=redirected)
    trouble = find_range_trouble(head, position=position, size_bytes=100, now=NOW)
    return trouble.kind if trouble else None


def test_the_bytes_that_were_asked_for() -> None:
    assert kind(206, RIGHT) is None
    assert kind(200, {"content-length": "100"}, position=0) is None
    assert kind(200, {}, position=0) is None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (206, {}, TroubleKind.VAGUE),
        (206, {"content-range": "bytes 49-99/100"}, TroubleKind.MISFIT),
        (206, {"content-range": "bytes 50-99/101"}, TroubleKind.MISFIT),
        (206, RIGHT | {"content-encoding": "gzip"}, TroubleKind.REFUSED),
        (200, {"content-length": "100"}, TroubleKind.IGNORES_RANGES),
        (200, {"content-length": "99"}, TroubleKind.MISFIT),
        (416, {"content-range": "bytes */10"}, TroubleKind.MISFIT),
        (408, {}, TroubleKind.BUSY),
        (429, {}, TroubleKind.BUSY),
        (500, {}, TroubleKind.BUSY),
        (504, {}, TroubleKind.BUSY),
        (400, {}, TroubleKind.REFUSED),
        (302, {}, TroubleKind.REFUSED),
    ],
)
def test_anything_else(status: int, headers: dict[str, str], expected: TroubleKind) -> None:
    assert kind(status, headers) is expected


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_may_have_expired_an_address_has_not(status: int) -> None:
    assert kind(status, {}, redirected=True) is TroubleKind.LINK
    assert kind(status, {}, redirected=False) is TroubleKind.REFUSED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 -0000"}, None),
        ({"retry-after": "soon"}, None),
        ({"ratelimit": '"resolvers";r=0;t=55'}, 55.0),
        ({"ratelimit": '"resolvers";r=4;t=55'}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds
