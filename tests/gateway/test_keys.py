"""Keys: shown once, kept hashed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from launcher.errors import NotFound, UsageError
from launcher.gateway.keys import KeyRing, add_key, keys_path, read_key_list, remove_key
from launcher.system.settings import read_settings


@pytest.fixture
def path() -> Path:
    return keys_path(read_settings())


def test_a_key_opens_until_it_is_removed(path: Path) -> None:
    ring = KeyRing(path)
    assert ring.find("sk-x") is None
    key = add_key(read_settings(), "phone", ("a", "b"))
    found = ring.find(key)
    assert found is not None
    assert (found.name, found.models) == ("phone", ("a", "b"))
    assert ring.find(key + "x") is None
    assert ring.find(None) is None
    remove_key(read_settings(), "phone")
    assert ring.find(key) is None


def test_no_file_holds_the_key(path: Path) -> None:
    key = add_key(read_settings(), "phone", ())
    assert key.removeprefix("sk-") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_names_are_used_once_and_are_names() -> None:
    add_key(read_settings(), "phone", ())
    with pytest.raises(UsageError, match="already"):
        add_key(read_settings(), "phone", ())
    with pytest.raises(UsageError, match="name"):
        add_key(read_settings(), "../x", ())
    with pytest.raises(NotFound, match="no key tablet"):
        remove_key(read_settings(), "tablet")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"schema": 2, "keys": []}', b'{"schema": 1, "keys": [{}]}', b"\xff", b"[" * 10_000],
)
def test_a_damaged_file_opens_nothing_and_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=r"keys\.json"):
        read_key_list(path)


def test_a_file_that_every_user_can_change_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"schema": 1, "keys": []}')
    assert read_key_list(path) == ()
    path.chmod(0o666)
    with pytest.raises(UsageError, match="every user can change it"):
        read_key_list(path)
