"""A deployment keeps its port from one start to the next."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launcher.deployment.kept_ports import choose_port, keep_port, kept_port

HOST = "127.0.0.1"


def test_the_next_start_has_the_port_of_the_last(tmp_path: Path) -> None:
    port = choose_port(tmp_path, "m", HOST, ())
    keep_port(tmp_path, "m", port)
    assert choose_port(tmp_path, "m", HOST, ()) == port


def test_a_port_that_is_taken_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        keep_port(tmp_path, "m", other.getsockname()[1])
        assert choose_port(tmp_path, "m", HOST, ()) != other.getsockname()[1]
    port = choose_port(tmp_path, "n", HOST, ())
    keep_port(tmp_path, "n", port)
    assert choose_port(tmp_path, "n", HOST, {port}) != port


def test_nobody_is_given_the_port_that_another_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_port(tmp_path, "m", 40001)
    offered = iter([40001, 40002])
    monkeypatch.setattr("launcher.deployment.ports._bind", lambda _host, _port: next(offered))
    assert choose_port(tmp_path, "n", HOST, ()) == 40002


@pytest.mark.parametrize(
    "content", [b"", b"0", b"80", b"70000", b"8080 ; x", b"\xff", b"-1", b"9" * 100, "٣".encode()]
)
def test_a_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.port").write_bytes(content)
    (tmp_path / "m.port").chmod(0o600)
    assert kept_port(tmp_path, "m") is None
    assert choose_port(tmp_path, "m", HOST, ()) > 1023


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("40001")
    (tmp_path / "m.port").symlink_to(tmp_path / "elsewhere")
    assert kept_port(tmp_path, "m") is None
