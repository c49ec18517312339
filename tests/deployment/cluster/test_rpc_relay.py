"""A rank's server behind its socket: its own user gets there, another does not, and no port shows it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launcher.deployment.cluster import rpc_relay
from launcher.deployment.cluster.private_socket import check_socket, new_socket, remove_socket, sweep_sockets
from launcher.errors import UsageError

NOBODY = 65534
# It answers as often as it is asked, at the address that it is given.
SERVER = """#!{python}
import socket, sys, threading
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
listener = socket.create_server((words["-H"], int(words["-p"])))
while True:
    client, _ = listener.accept()
    while data := client.recv(1 << 16):
        client.sendall(data)
"""
needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run(["unshare", "-Urn", "true"], check=False).returncode != 0,
    reason="no network namespaces here",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Relay:
    def __init__(self, folder: Path) -> None:
        self.path = new_socket()
        server = folder / "ggml-rpc-server"
        server.write_text(SERVER.format(python=sys.executable))
        server.chmod(0o700)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", rpc_relay.__file__, self.path, str(server)], stderr=log
            )

    def server(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]

    def wait(self) -> None:
        eventually(Path(self.path).is_socket)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path)
    try:
        relay.wait()
        yield relay
    finally:
        relay.process.kill()
        relay.process.wait()
        remove_socket(relay.path)


def ask(path: str, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(data)
        answer = b""
        while len(answer) < len(data) and (block := client.recv(1 << 16)):
            answer += block
        return answer


def as_nobody(act: Callable[[], int]) -> int:
    """Return what `act` gives in a process of another user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os._exit(act())
        except OSError as error:
            os._exit(error.errno or 255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_its_user_is_led_to_the_server_as_often_as_he_likes(relay: Relay) -> None:
    for n_bytes in (1, 3_000_000, 7):
        sent = os.urandom(n_bytes)
        assert ask(relay.path, sent) == sent


@needs_namespaces
def test_no_port_of_this_machine_leads_there(relay: Relay) -> None:
    pids = {relay.process.pid, relay.server().pid}
    here = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    inside = Path(f"/proc/{relay.server().pid}/net/tcp").read_text().splitlines()[1:]

    assert not any(f"pid={pid}," in here for pid in pids)
    assert [line for line in inside if line.split()[3] == "0A"]  # it listens (net/tcp_states.h)
    assert "a loopback of its own" in relay.log.read_text()


@needs_root
def test_another_user_reaches_neither_the_folder_nor_the_server(relay: Relay) -> None:
    def intrude() -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(relay.path)
            client.sendall(b"x")
            return len(client.recv(1))

    assert as_nobody(intrude) == errno.EACCES
    # even with an open folder, the user at the other end is asked for
    Path(relay.path).parent.chmod(0o711)
    Path(relay.path).chmod(0o777)
    assert as_nobody(intrude) in {0, errno.EPIPE, errno.ECONNRESET}
    assert "another user was refused" in relay.log.read_text()
    assert ask(relay.path, b"mine") == b"mine"


def test_each_ends_with_the_other(relay: Relay) -> None:
    server = relay.server()
    server.kill()
    assert relay.process.wait(10) == -9
    assert not Path(relay.path).parent.exists()


def test_the_server_ends_with_what_leads_there_and_what_is_left_is_swept(relay: Relay) -> None:
    server = relay.server()
    relay.process.kill()
    eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    relay.process.wait()
    assert Path(relay.path).exists()

    sweep_sockets()

    assert not Path(relay.path).parent.exists()


def test_one_that_is_at_work_is_not_swept(relay: Relay) -> None:
    sweep_sockets()
    assert ask(relay.path, b"still") == b"still"


# In a process of its own: what waits for the server ends the process where none listens.
WITHOUT_NAMESPACES = """
import sys
from launcher.deployment.cluster import rpc_relay
def not_allowed():
    raise rpc_relay.NotIsolated("no network namespace is allowed here (Operation not permitted)")
rpc_relay.isolate = not_allowed
rpc_relay.main(sys.argv[1:])
"""


def test_without_a_namespace_the_log_says_that_it_is_open_to_others(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rpc"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAMESPACES, str(path), "/bin/true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "NOT protected from other users of this machine" in done.stderr
    assert not path.parent.exists()


def test_a_folder_that_somebody_made_before_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError):
        rpc_relay.main([str(tmp_path / "folder" / "rpc"), "/bin/true"])


@pytest.mark.parametrize("path", ["/tmp/launcher-rank-1/rpc", "/etc/passwd", "{own}/../../x", ""])
def test_a_head_names_no_other_files(path: str) -> None:
    with pytest.raises(UsageError):
        check_socket(path.format(own=new_socket()))
