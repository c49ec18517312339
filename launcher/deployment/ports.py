"""Find a free TCP port, and the process that listens on one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

import psutil

from launcher.deployment.identity import ProcessId
from launcher.deployment.process import process_tree
from launcher.errors import TryAgain, UsageError

_ATTEMPTS = 64


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """Return a port that is free now and not in `taken`.

    Raises UsageError for a host that is not this machine's, TryAgain if no port is free.
    """
    for _ in range(_ATTEMPTS):
        port = _bind(host, 0)
        if port not in taken:
            return port
    raise TryAgain(f"no free port on {host} after {_ATTEMPTS} attempts", hint="--port 8080")


def free_ports(count: int) -> tuple[int, ...]:
    """Return different ports that are free on loopback now. Raises TryAgain."""
    ports: list[int] = []
    for _ in range(count):
        ports.append(free_port("127.0.0.1", ports))
    return tuple(ports)


def check_port(host: str, port: int) -> None:
    """Raise UsageError if `port` cannot be used, naming the process that listens on it."""
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} may only be used by root", hint="--port 8080") from error
        listener = _listener(port)
        if listener is None and _is_left(host, port):
            return
        raise UsageError(
            f"port {port} on {host} is in use by {listener or 'a process that is just ending'}",
            hint="leave --port out",
        ) from error


def listens(process: ProcessId, port: int) -> bool | None:
    """Tell whether the process or a descendant listens; None if the system does not say."""
    answer = None
    for member in process_tree(process):
        try:
            connections = member.net_connections(kind="tcp")
        except (psutil.Error, OSError):
            continue
        answer = False
        if any(seen.status == psutil.CONN_LISTEN and seen.laddr[1] == port for seen in connections):
            return True
    return answer


def _is_left(host: str, port: int) -> bool:
    """Tell if only closed connections of a server with SO_REUSEPORT hold the port: one alike may have it."""
    # ik_llama.cpp's (cpp-httplib's default_socket_options); without a listener nobody's requests are taken
    try:
        return _bind(host, port, option=socket.SO_REUSEPORT) == port
    except OSError:
        return False


def _bind(host: str, port: int, option: int = socket.SO_REUSEADDR) -> int:
    """Bind, let go and return the port. Raises OSError, or UsageError for a bad host."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"host {host} has no address", hint="--host 127.0.0.1") from error
    with socket.socket(family, kind, protocol) as probe:
        if port:
            # As llama-server does (server-http.cpp), so that a port its predecessor has just left counts as
            # free.
            probe.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(
                    f"{host} is not an address of this machine", hint="--host 127.0.0.1"
                ) from error
            raise
        return int(probe.getsockname()[1])


def _listener(port: int) -> str | None:
    """Name the process that listens on a port; None if nobody does."""
    unseen = "a process of another user"
    try:
        for seen in psutil.net_connections(kind="tcp"):
            if seen.status == psutil.CONN_LISTEN and seen.laddr[1] == port:
                return f"{psutil.Process(seen.pid).name()} (pid {seen.pid})" if seen.pid else unseen
    except (psutil.Error, OSError):
        return unseen
    return None
