"""Run a ggml-rpc-server where no other user reaches it, and lead to it from a socket in a private folder.

Started as `python -I rpc_relay.py SOCKET ggml-rpc-server …` in the server's place: each ends with the other.
The server knows no password, and a port on loopback is open to every user of the machine: so it gets a
loopback of its own, a network namespace, where the system gives one to this user.
"""

# There is one for each device: nothing but the standard library is imported, so that it stays small.

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # unshare(2), linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # netdevice(7)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LOOPBACK = "127.0.0.1"
_BLOCK = 256 << 10
_BACKLOG = 8
_LISTEN_S = 60.0  # for the server to listen: its driver may have to wake up
_POLL_S = 0.02


class NotIsolated(Exception):
    """This system gives us no network of our own."""


def isolate() -> None:
    """Enter a network namespace that has a loopback alone. Raises NotIsolated, having done nothing."""
    if sys.platform != "linux":
        raise NotIsolated("this system has no network namespaces")
    # Half of it may be allowed, and cannot be undone: a child tries it first.
    pid = os.fork()
    if pid == 0:
        try:
            _enter()
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise NotIsolated(f"no network namespace is allowed here ({os.strerror(status)})")
    _enter()


def _enter() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET):  # not root's to give: a user namespace of our own is
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        # Users and groups keep their numbers: devices and files are as open to us as before.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def free_port() -> int:
    with socket.socket() as any_socket:
        any_socket.bind((_LOOPBACK, 0))
        return int(any_socket.getsockname()[1])


def start(argv: list[str]) -> int:
    """Start the server as a child that dies with us; return its pid."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    pid = os.fork()
    if pid == 0:
        try:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.execv(argv[0], argv)  # noqa: S606  a list of words, and no shell
        except OSError as error:
            os.write(2, f"launcher: {argv[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)
    return pid


def connect(port: int, limit_s: float = 0.0) -> socket.socket:
    """Connect to the server, waiting for it to listen. Raises OSError."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            connection = socket.create_connection((_LOOPBACK, port))
        except ConnectionRefusedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def is_ours(client: socket.socket) -> bool:
    """Tell whether the process at the other end is of our user; where nobody says, the folder has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.geteuid())


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either says, until one of them ends."""
    threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pass_on, args=(other, one), daemon=True)
    back.start()
    _pass_on(one, other)
    back.join()
    one.close()
    other.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    block = memoryview(bytearray(_BLOCK))
    with contextlib.suppress(OSError):
        while n_bytes := source.recv_into(block):
            target.sendall(block[:n_bytes])
    for each in (source, target):  # the other way ends, too
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, port: int, first: socket.socket) -> None:
    """Lead every client of our user to the server, for ever. `first` is a connection that waits for one."""
    waiting: socket.socket | None = first
    while True:
        client, _ = listener.accept()
        if not is_ours(client):
            os.write(2, b"launcher: another user was refused at the socket of this rank\n")
            client.close()
            continue
        try:
            server = connect(port) if waiting is None else waiting
        except OSError:
            client.close()
            continue
        waiting = None
        join(client, server)


def main(words: list[str]) -> None:
    path, *argv = words
    folder = Path(path).parent
    folder.mkdir(mode=0o700)  # fails where there is one: it may be another user's
    try:
        try:
            isolate()
            said = "it has a loopback of its own, which no other user reaches"
        except NotIsolated as why:
            said = f"NOT protected from other users of this machine, who reach its port: {why}"
        port = free_port()
        os.write(2, f"launcher: {Path(argv[0]).name}: {said}\n".encode())
        pid = start([*argv, "-H", _LOOPBACK, "-p", str(port)])
        threading.Thread(target=_lead, args=(path, port), daemon=True).start()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status < 0:  # as the server ended
        with contextlib.suppress(OSError):  # SIGKILL has no other
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _lead(path: str, port: int) -> None:
    """Open the socket once the server listens: that there is one says that it is ready."""
    try:
        # The server works for one connection at a time: this one is the first client's.
        first = connect(port, _LISTEN_S)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(_BACKLOG)
        serve(listener, port, first)
    except OSError as error:
        os.write(2, f"launcher: no way leads to the server: {error}\n".encode())
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
