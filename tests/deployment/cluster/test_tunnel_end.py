"""The end of a tunnel on the head's machine: its own user is led on, another is not."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.deployment.cluster.tunnel_end import TunnelEnds, user_at
from launcher.deployment.ports import free_port
from tests.deployment.cluster.test_rpc_relay import as_nobody, needs_root


@pytest.fixture
def port() -> Iterator[int]:
    """A port at the end of a tunnel whose other end answers what it hears."""
    ends, port = TunnelEnds(), free_port("127.0.0.1")
    path = ends.add(port)

    def answer() -> None:
        with socket.socket(socket.AF_UNIX) as ssh:
            ssh.bind(path)
            ssh.listen()
            ready.set()
            while True:
                client, _ = ssh.accept()
                with client:
                    while data := client.recv(1 << 16):
                        client.sendall(data)

    ready = threading.Event()
    threading.Thread(target=answer, daemon=True).start()
    ready.wait()
    ends.open()
    yield port
    ends.close()
    assert not Path(path).parent.exists()


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"well")
        return client.recv(4)


def test_its_user_is_led_on(port: int) -> None:
    assert ask(port) == b"well"
    assert ask(port) == b"well"


@needs_root
def test_another_user_is_refused(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert as_nobody(lambda: len(ask(port))) in {0, errno.EPIPE, errno.ECONNRESET}
    assert "user 65534 was refused" in capfd.readouterr().err
    assert ask(port) == b"well"


def test_what_a_killed_gang_left_is_removed_by_the_next() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = Path(tempfile.mkdtemp(prefix=f"launcher-gang-{ended.pid}-"))
    living = Path(tempfile.mkdtemp(prefix=f"launcher-gang-{os.getpid()}-"))

    TunnelEnds().close()

    assert not left.exists()
    assert living.exists()
    living.rmdir()


def test_who_is_at_the_other_end_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert user_at(client.getsockname()[1], port) == os.geteuid()
            assert user_at(client.getsockname()[1], port + 1) is None
