"""Write down where this user's gateway answers, and find it again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from launcher.deployment.address import local_url
from launcher.deployment.identity import Presence, find_presence, identify, read_process
from launcher.deployment.records import make_private
from launcher.gateway.config import GatewayConfig
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.owned_files import read_file
from launcher.system.settings import Settings

_FILE = "address.json"
_MOST_BYTES = 4096


@contextlib.contextmanager
def written_down(folder: Path, url: str) -> Iterator[None]:
    """Say inside the block that this process is the gateway, and where it answers. Raises OSError."""
    me = identify(os.getpid())
    if me is None:  # there is no /proc: then it is looked for where it is configured
        yield
        return
    make_private(folder)
    write_atomically(folder / _FILE, json.dumps({"url": url, "process": asdict(me)}).encode())
    try:
        yield
    finally:
        (folder / _FILE).unlink(missing_ok=True)


def running_url(settings: Settings) -> str | None:
    """Return where this user's gateway answers; None if none runs."""
    try:
        text, _ = read_file(settings.gateway_dir / _FILE, _MOST_BYTES)
        given = JsonObject(parse_json(text))
        url, process = given.text("url"), read_process(given.object_at("process"))
    except (OSError, ValueError, Malformed):
        return None
    # one that was killed has left its file
    return url if find_presence(process) is Presence.RUNNING else None


def gateway_url(settings: Settings, config: GatewayConfig) -> str:
    """Return where the gateway answers, or would if it were started now."""
    return running_url(settings) or local_url(config.host, config.port)
