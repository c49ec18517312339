"""What is sent of an address, against a web server that keeps what it was asked for."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.models.transfer import request
from launcher.models.transfer.download import Download
from launcher.models.transfer.request import request_range
from launcher.system.network.connection import Connection
from launcher.system.network.request import Answer
from launcher.system.network.trouble import Trouble, TroubleKind
from tests.models.transfer.test_transfer import DATA, Server, serving


class Redirecting(Server):
    """Sends from /x to `location`, as the bytes that it is; `targets` are the request lines' addresses."""

    targets: list[str]
    location = ""
    drips = False

    def do_GET(self) -> None:  # noqa: N802 (the base class names it)
        self.targets.append(self.path)
        if self.path != "/x":
            super().do_GET()
            return
        self.send_response(302)
        self.send_header("Location", self.location.encode().decode("latin-1"))
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def handler() -> type[Redirecting]:
    return type("Handler", (Redirecting,), {"asked": [], "targets": []})


@pytest.fixture
def url(handler: type[Redirecting]) -> Iterator[str]:
    with serving(handler) as running:
        yield running


def asked(url: str) -> Answer | Trouble:
    wanted = Download(
        name="x",
        size_bytes=len(DATA),
        sha256=None,
        url=url,
        partial_path=Path(),
        lock_path=Path(),
        identity="x",
    )
    line = Connection(5.0)
    try:
        return request_range(line, wanted, None, 0, 10)
    finally:
        line.close()


SIGNED = "/a%2Fb/c?sig=" + "".join(sign for sign in string.punctuation if sign != "#") + "%C3%BC"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (SIGNED, SIGNED),
        ("/modèle?name=ü", "/mod%C3%A8le?name=%C3%BC"),
        ("/two words", "/two%20words"),
    ],
)
def test_a_link_is_asked_for_as_it_was_given_and_the_rest_spelled_out(
    handler: type[Redirecting], url: str, location: str, target: str
) -> None:
    handler.location = location
    answer = asked(url)
    assert isinstance(answer, Answer)
    assert handler.targets == ["/x", target]


def test_a_typed_address_may_hold_any_letter(handler: type[Redirecting], url: str) -> None:
    assert isinstance(asked(url.removesuffix("/x") + "/模型/\udcff"), Answer)
    assert handler.targets == ["/%E6%A8%A1%E5%9E%8B/%FF"]


@pytest.mark.parametrize("location", ["http://127.0.0.1:port/x", "http://[::1/x"])
def test_a_redirect_to_no_address_is_trouble(handler: type[Redirecting], url: str, location: str) -> None:
    handler.location = location
    trouble = asked(url)
    assert isinstance(trouble, Trouble)
    assert (trouble.kind, trouble.reason) == (
        TroubleKind.BROKE,
        "it redirects to an address that cannot be used",
    )


@pytest.mark.parametrize(
    ("begin", "end", "headers"),
    [
        (0, 10, {"Range": "bytes=0-9"}),
        (5, 6, {"Range": "bytes=5-5"}),
        (5, 100, {"Range": "bytes=5-99"}),
        (0, 100, {}),  # a server that knows no ranges is asked for nothing odd
    ],
)
def test_a_range_names_its_last_byte_and_the_whole_file_none(
    monkeypatch: pytest.MonkeyPatch, begin: int, end: int, headers: dict[str, str]
) -> None:
    sent: list[object] = []
    broke = Trouble(kind=TroubleKind.BROKE, reason="reset")

    def ask(*_: object, headers: object, link: object) -> Trouble:
        sent.extend([headers, link])
        return broke

    monkeypatch.setattr(request, "ask", ask)
    wanted = Download(
        name="x",
        size_bytes=100,
        sha256=None,
        url="http://x/x",
        partial_path=Path(),
        lock_path=Path(),
        identity="x",
    )
    assert request_range(Connection(1.0), wanted, "http://y", begin, end) == broke
    assert sent == [headers, "http://y"]
