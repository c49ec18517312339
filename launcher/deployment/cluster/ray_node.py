"""Start and end this machine's node of Ray, a process of ours, and keep where it is."""

# Never `ray stop`: it ends every Ray of the machine, by name. Here a pid counts only with its start time.

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from launcher.deployment.cluster.ray_start import (
    RayPlace,
    find_problem,
    has_started,
    ray_argv,
    ray_environment,
)
from launcher.deployment.identity import Presence, ProcessId, find_presence, identify, read_process
from launcher.errors import NotAllowed, TryAgain, UsageError
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.owned_files import check_unchangeable, opened_folder, read_file

_SCHEMA = 1
_MOST_BYTES = 64 << 10
_MOST_LOG = 1 << 20
_START_S = 90.0  # 2 to 18 s were seen on two busy cores
_END_S = 40.0  # Ray drains for up to 30 s


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """This machine's node, as it was started."""

    place: RayPlace
    token_file: str
    process: ProcessId

    @property
    def is_up(self) -> bool:
        return find_presence(self.process) is Presence.RUNNING


def make_token(file: Path) -> None:
    """Write a new token, for its owner alone, unless there is one."""
    if not file.exists():
        write_atomically(file, secrets.token_hex(32).encode("ascii"))


def check_token(file: Path) -> None:
    """Raise NotAllowed without a token that its owner alone can read."""
    try:
        about = file.stat()
        content, _ = read_file(file, _MOST_BYTES)
    except OSError as error:
        raise NotAllowed(
            f"Ray's token {file} cannot be read: {error.strerror}",
            hint="take the file that launcher cluster start names on the first machine",
        ) from error
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise NotAllowed(f"{file} can be read by others, and holds a token", hint=f"chmod 600 {file}")
    if not content.strip():
        raise NotAllowed(f"{file} holds no token", hint="launcher cluster start, on the first machine")


def own_addresses() -> tuple[str, ...]:
    """Return all addresses of this machine, IPv4 first."""
    every = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    found = {
        each.address.partition("%")[0] for each in every if each.family in {socket.AF_INET, socket.AF_INET6}
    }
    return tuple(sorted(found, key=lambda address: (":" in address, address)))


def address_towards(host: str, port: int) -> str:
    """Return this machine's address on the way to a host that answers there. Raises TryAgain."""
    try:
        with socket.create_connection((host, port), timeout=5) as line:
            return str(line.getsockname()[0])
    except OSError as error:
        raise TryAgain(
            f"{host}:{port} cannot be reached: {error.strerror or error}",
            hint="launcher cluster start, there",
        ) from error


def read_ray_node(file: Path) -> RayNode | None:
    """Return what `start_ray_node` wrote; None for nothing. Raises UsageError."""
    try:
        check_unchangeable(file)
        content, _ = read_file(file, _MOST_BYTES)
        given = JsonObject(parse_json(content))
        given.whole("schema", _SCHEMA, _SCHEMA)
        place = RayPlace(
            address=given.text("address"), head=given.text("head"), port=given.whole("port", 1, 65535)
        )
        token_file = given.text("token_file")
        return RayNode(place=place, token_file=token_file, process=read_process(given.object_at("process")))
    except FileNotFoundError:
        return None
    except (OSError, Malformed) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file} cannot be read: {problem}", hint=f"mv {file} {file}.old") from error


def start_ray_node(file: Path, place: RayPlace, token_file: Path) -> RayNode:
    """Start a node and wait until it runs; what fails leaves no process.

    Raises NotAllowed, TryAgain, UsageError.
    """
    folder = Path(tempfile.gettempdir()) / f"launcher-ray-{os.getuid()}"  # short: Ray's sockets are there
    with opened_folder(folder, create=True):
        folder.chmod(0o700)
    argv = ray_argv(sys.executable, place, str(folder))
    log = file.with_suffix(".log")
    with log.open("wb") as said:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **ray_environment(str(token_file))},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with _ended_unless_kept(process):
        identity = _wait(process, log, place)
        node = RayNode(place=place, token_file=str(token_file), process=identity)
        document = {
            "schema": _SCHEMA,
            **asdict(place),
            "token_file": node.token_file,
            "process": asdict(identity),
        }
        write_atomically(file, json.dumps(document).encode())
    return node


def end_ray_node(file: Path, node: RayNode) -> None:
    """End this machine's node with all its processes, and forget it."""
    if node.is_up:
        with contextlib.suppress(psutil.NoSuchProcess):
            _end(psutil.Process(node.process.pid))
    left = _left_of(node)
    for each in left:  # its own end did not end them: two agents outlive a SIGKILL of it (tried)
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, timeout=5)
    file.unlink(missing_ok=True)


def _left_of(node: RayNode) -> list[psutil.Process]:
    """Return the processes of the node's session: those with its token, and Ray's, whose titles hide it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != node.process.pid:
                continue
            token = process.environ().get("RAY_AUTH_TOKEN_PATH")  # a title is written over the environment
            if token == node.token_file or " ".join(process.cmdline()).startswith("ray::"):
                found.append(process)
    return found


def _wait(process: subprocess.Popen[bytes], log: Path, place: RayPlace) -> ProcessId:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        with log.open("rb") as file:
            text = file.read(_MOST_LOG).decode("utf-8", errors="replace")
        if problem := find_problem(text, place, has_ended=has_ended):
            raise problem
        identity = identify(process.pid)
        if has_started(text) and identity is not None:
            return identity
        time.sleep(0.1)
    raise TryAgain(f"Ray did not start at {place.address} within {_START_S:.0f} s", hint=f"cat {log}")


@contextlib.contextmanager
def _ended_unless_kept(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(psutil.NoSuchProcess):
            _end(psutil.Process(process.pid), 5.0)
        process.wait()
        raise


def _end(process: psutil.Process, limit_s: float = _END_S) -> None:
    """End a process and its children, these by force once it is gone."""
    children = process.children(recursive=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    _, left = psutil.wait_procs([process], timeout=limit_s)
    for each in (*left, *children):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs([process, *children], timeout=5)
