"""Lead llama-server, and nobody else of this machine, into the tunnels to its ranks.

llama-server takes a rank by host and port, and a port on loopback is open to every user. So ssh's own end of
a tunnel is a socket in a folder for us alone, and who comes to the port is looked up before he is led there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path

from launcher.deployment.cluster.rpc_relay import join
from launcher.deployment.identity import lives
from launcher.units import one_line

_LOOPBACK = "127.0.0.1"
_PREFIX = "launcher-gang-"
_CONNECTIONS = Path("/proc/net/tcp")  # proc(5): of our network namespace, with the user of each


class TunnelEnds:
    """Ports on loopback, each with a socket that leads on; opened once no more programs are started."""

    def __init__(self) -> None:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))  # 0700
        self._listeners: dict[str, socket.socket] = {}

    def add(self, port: int) -> str:
        """Listen on the port; return the socket that ssh is to make. Raises OSError."""
        path = str(self._folder / str(port))
        self._listeners[path] = socket.create_server((_LOOPBACK, port))
        return path

    def open(self) -> None:
        for path, listener in self._listeners.items():
            threading.Thread(target=_serve, args=(listener, path), daemon=True, name="tunnel-end").start()

    def close(self) -> None:
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders of our gangs that were killed, and so could not remove them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and not lives(int(pid)) and folder.lstat().st_uid == os.geteuid():
                shutil.rmtree(folder)


def _serve(listener: socket.socket, path: str) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            client, address = listener.accept()
            user = user_at(address[1], listener.getsockname()[1])
            if user not in {None, os.geteuid()}:
                os.write(2, f"launcher: gang: user {user} was refused at the tunnel to a rank\n".encode())
                client.close()
                continue
            way = socket.socket(socket.AF_UNIX)
            try:
                way.connect(path)
            except OSError as error:
                way.close()
                os.write(2, f"launcher: gang: a tunnel is closed: {one_line(str(error), 200)}\n".encode())
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            join(client, way)


def user_at(port: int, to_port: int) -> int | None:
    """Return the user whose connection on loopback goes from `port` to `to_port`; None if nobody says."""
    try:
        lines = _CONNECTIONS.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    ends = [f":{port:04X}", f":{to_port:04X}"]
    for words in map(str.split, lines):
        if words[1].endswith(ends[0]) and words[2].endswith(ends[1]):
            return int(words[7])
    return None
