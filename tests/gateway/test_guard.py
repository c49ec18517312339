"""Who may ask."""

from __future__ import annotations

import pytest

from launcher.gateway.guard import Doors, bearer, find_problem

LOOPBACK = Doors(needs_key=False)
OPEN = Doors(needs_key=True)
HOST = {b"host": b"localhost:8080"}


@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:8080", b"127.0.0.1:1", b"[::1]:8080", b"127.9.9.9"]
)
def test_loopback_is_known_by_its_names(host: bytes) -> None:
    assert find_problem(LOOPBACK, {b"host": host}, b"/v1/models", has_key=False) is None


@pytest.mark.parametrize(
    "host",
    [b"", b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"127.0.0.1.evil.example", b"a@localhost",
     b"localhost/", b"127.0.0.1\t", b"[::1", b"0.0.0.0", b"10.0.0.1", b"localhost:8080:1"],
)  # fmt: skip
def test_a_name_that_leads_here_from_elsewhere_is_refused(host: bytes) -> None:
    problem = find_problem(LOOPBACK, {b"host": host}, b"/v1/models", has_key=False)
    assert problem is not None
    assert (problem.status, problem.code) == (403, "host_refused")


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"http://localhost:3000", b"file://", b""]
)
def test_pages_of_other_origins_may_not_ask(origin: bytes) -> None:
    problem = find_problem(LOOPBACK, HOST | {b"origin": origin}, b"/v1/models", has_key=False)
    assert problem is not None
    assert problem.code == "origin_refused"


def test_its_own_page_and_named_ones_may_ask() -> None:
    for origin, doors in [
        (b"http://localhost:8080", LOOPBACK),
        (b"http://localhost:3000", Doors(needs_key=False, origins=frozenset({"http://localhost:3000"}))),
    ]:
        assert find_problem(doors, HOST | {b"origin": origin}, b"/v1/models", has_key=False) is None


def test_others_need_a_key() -> None:
    problem = find_problem(OPEN, {b"host": b"box.example"}, b"/v1/models", has_key=False)
    assert problem is not None
    assert problem.status == 401
    assert find_problem(OPEN, {b"host": b"box.example"}, b"/v1/models", has_key=True) is None


@pytest.mark.parametrize(
    "path",
    [b"/upstream/a/../../etc", b"/upstream/a/%2e%2e/x", b"//evil", b"/v1/%2E%2e/props", b"/a\\b", b"/a%00b", b"/a/./b",
     b"/a%0d%0aX: 1", b"x", b""],
)  # fmt: skip
def test_path_tricks_are_refused(path: bytes) -> None:
    problem = find_problem(LOOPBACK, HOST, path, has_key=True)
    assert problem is not None
    assert problem.code == "bad_path"


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"authorization": b"Bearer k"}, "k"),
        ({b"authorization": b"bearer  k "}, "k"),
        ({b"x-api-key": b"k"}, "k"),
        ({b"authorization": b"Basic k"}, None),
        ({b"authorization": b"Bearer "}, None),
        ({}, None),
    ],
)
def test_a_key_is_found_where_clients_put_it(headers: dict[bytes, bytes], key: str | None) -> None:
    assert bearer(headers) == key
