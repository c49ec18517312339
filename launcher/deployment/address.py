"""Addresses llama-server listens on: who can reach them, and their URL here."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from launcher.errors import UsageError


def check_exposure(host: str, api_key_file: Path | None) -> None:
    """Raise UsageError if other machines can reach `host` and no API key is set."""
    if api_key_file is None and not is_loopback(host):
        raise UsageError(
            f"host {host} can be reached from other machines and no API key is set",
            hint="give --api-key-file FILE, or leave --host out",
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches a server bound to `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
