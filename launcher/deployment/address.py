"""Addresses llama-server listens on: who can reach them, and their URL here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from launcher.engine.find import RPC_SERVER
from launcher.engine.flags.listening import is_loopback, listening
from launcher.engine.key_file import read_keys
from launcher.errors import UsageError

_DEFAULT_HOST = "127.0.0.1"  # llama-server's own (common/common.h at 0c1e570)


def check_exposure(host: str, api_key_file: Path | None) -> None:
    """Raise UsageError if other machines can reach `host` and no API key is set."""
    if api_key_file is None and not is_loopback(host):
        raise UsageError(
            f"host {host} can be reached from other machines and no API key is set",
            hint="give --api-key-file FILE, or leave --host out",
        )


def check_start(argv: Sequence[str]) -> None:
    """Raise UsageError if a server of this command line would be open to others than its user wants.

    Called at every start: key files change while servers run.
    """
    _check_rpc(argv)
    # a named file has to hold a key on loopback, too: llama-server takes an empty one for no key at all
    where = listening(argv)
    host = _DEFAULT_HOST if where.host is None else where.host
    check_exposure(host, Path(where.key_files[0]) if where.key_files else None)
    for path in where.key_files:
        read_keys(path)


def _check_rpc(argv: Sequence[str]) -> None:
    """Raise UsageError for a ggml-rpc-server that others can reach, or that serves from its cache."""
    programs = [Path(word).name for word in argv]
    if RPC_SERVER not in programs:
        return
    words = argv[programs.index(RPC_SERVER) + 1 :]
    if {"-c", "--cache"} & set(words):
        # Tried: files cut to 1 MiB, as a full disk leaves them, were served as weights without a word.
        raise UsageError(
            "a ggml-rpc-server with --cache serves files of weights that nothing verifies",
            hint="leave --cache out",
        )
    hosts = [value for flag, value in pairwise(words) if flag in {"-H", "--host"}]
    for host in hosts:
        if not is_loopback(host):
            raise UsageError(
                f"a ggml-rpc-server on {host} can be used by whoever reaches it: it knows no password",
                hint="leave it on 127.0.0.1, and let ssh -L lead there: launcher up REF --cluster",
            )


def local_url(host: str, port: int) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
