"""Tell the records that this user's launcher wrote from those that were edited, or come from elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from launcher.deployment.record import Deployment
from launcher.system.owned_files import read_file

_FILE = ".seal"  # in the folder of the records, 0600
_KEY_BYTES = 32


def seal(folder: Path, deployment: Deployment) -> str | None:
    """Return the seal on what a record starts; None if no key can be kept here."""
    key = _key(folder) or _new_key(folder)
    return None if key is None else _sealed(key, deployment)


def is_sealed(folder: Path, deployment: Deployment) -> bool:
    """Tell if `seal` was put on just this."""
    key = _key(folder)
    given = (deployment.seal or "").encode()
    return key is not None and hmac.compare_digest(_sealed(key, deployment).encode(), given)


def _sealed(key: bytes, deployment: Deployment) -> str:
    options = deployment.options
    what_counts = [
        deployment.name,
        deployment.argv,
        deployment.api_key_file,
        sorted(options.env.items()),
        options.passed,
        options.history,
        options.claim_folder,
    ]
    return hmac.digest(key, json.dumps(what_counts).encode(), hashlib.sha256).hex()


def _key(folder: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        key, _ = read_file(folder / _FILE, _KEY_BYTES)
        return key if len(key) == _KEY_BYTES else None
    return None


def _new_key(folder: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder / _FILE, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
    return _key(folder)
