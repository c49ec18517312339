import os
import re
import socket
from collections.abc import Iterator

import pytest

from launcher.deployment.identity import identify
from launcher.deployment.ports import check_port, free_port, listens
from launcher.errors import UsageError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_free_port_can_be_bound(listener: socket.socket) -> None:
    port = free_port("127.0.0.1")
    check_port("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert port != listener.getsockname()[1]


def test_a_taken_port_names_who_has_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    expected = rf"port {port} on 127.0.0.1 is in use by \S+ \(pid {os.getpid()}\)"
    with pytest.raises(UsageError, match=expected):
        check_port("127.0.0.1", port)
    with pytest.raises(UsageError, match=re.escape(f"port {port}")):
        check_port("0.0.0.0", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_this_one_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match=re.escape(host)):
        free_port(host)


def test_the_listener_is_told_from_others(listener: socket.socket) -> None:
    me = identify(os.getpid())
    assert me is not None
    assert listens(me, listener.getsockname()[1]) is True
    assert listens(me, free_port("127.0.0.1")) is False


def test_a_port_that_a_server_with_reuse_port_has_left_is_free() -> None:
    """Its closed connections keep it from others for a minute, and not from its successor."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match="is in use by"):
            check_port("127.0.0.1", port)
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # first: the waiting is on the server's side
        client.recv(1)
        client.close()
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            plain.bind(("127.0.0.1", port))
    check_port("127.0.0.1", port)
