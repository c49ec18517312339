"""Name the socket that leads to a rank, in a folder for its user alone, and clear away those that were left.

Its head names it, because ssh is told the way before the rank runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from launcher.errors import UsageError

# Not in the home, which may be on a network, or deep: a socket's path has at most 107 bytes (unix(7)).
_FOLDER = Path("/tmp")  # noqa: S108  a folder of its own is made there, 0700, under a name that nobody guesses
_PREFIX = "launcher-rank-"
_SOCKET = re.compile(rf"{_FOLDER}/{_PREFIX}[0-9a-f]{{32}}/rpc")


def new_socket() -> str:
    """Return the path of a socket on another machine."""
    return f"{_FOLDER}/{_PREFIX}{secrets.token_hex(16)}/rpc"


def check_socket(path: str) -> str:
    if not _SOCKET.fullmatch(path):
        raise UsageError(f"{path[:80]!r} is no socket of a rank", hint="launcher up REF --cluster")
    return path


def sweep_sockets() -> None:
    """Remove the folders of our ranks that were killed together with what would have removed them."""
    for folder in _FOLDER.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and _is_left(folder / "rpc"):
                shutil.rmtree(folder)


def remove_socket(path: str) -> None:
    shutil.rmtree(Path(check_socket(path)).parent, ignore_errors=True)


def _is_left(path: Path) -> bool:
    """Tell whether nobody listens at the socket; one that is not there yet may be to come."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
