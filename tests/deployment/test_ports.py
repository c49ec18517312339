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
