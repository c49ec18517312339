"""Read from a command line where a server will listen, and which keys it will ask for. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.flags.taskset import split_taskset


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a server listens. `host` is None if its command line does not say."""

    host: str | None
    key_files: tuple[str, ...]


def listening(argv: Sequence[str]) -> Listening:
    """Read the command line of a server, program first, as llama-server does: the last --host wins."""
    host, key_files = None, []
    words = split_taskset(argv)[1][1:]
    at = 0
    while at < len(words):
        flag = words[at].replace("_", "-") if words[at].startswith("--") else words[at]
        value = words[at + 1] if at + 1 < len(words) else ""
        if flag == "--host":
            host = value
        elif flag == "--api-key-file":
            key_files.append(value)
        # The values of a flag that is not known are looked at as flags: more is seen, nothing is missed.
        at += 1 + PINNED_ARITIES.get(flag, 0)
    return Listening(host=host, key_files=tuple(key_files))


def is_loopback(host: str) -> bool:
    """Tell if only this machine reaches who listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
