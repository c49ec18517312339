"""Keep the keys of those who may ask: hashed, with the models that each is for."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.deployment.record import check_name
from launcher.deployment.records import make_private
from launcher.errors import NotFound, UsageError
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.owned_files import check_unchangeable, read_file
from launcher.system.settings import Settings

_MOST_BYTES = 1 << 20
_MOST_KEYS = 1000
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    name: str
    sha256: str  # of the key, which has 256 random bits: a slow hash would protect nothing more
    made_at: float
    models: tuple[str, ...] = ()  # empty: all


def models_of(key: Key | None) -> frozenset[str] | None:
    """Return the names of the models that who has this key may ask for, None for all."""
    return frozenset(key.models) if key is not None and key.models else None


def keys_path(settings: Settings) -> Path:
    return settings.gateway_dir / "keys.json"


def read_key_list(path: Path) -> tuple[Key, ...]:
    """Return the keys; none if there is no file. Raises UsageError."""
    try:
        text, _ = read_file(path, _MOST_BYTES)
        check_unchangeable(path)  # who can write it lets in whom he likes
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    try:
        given = JsonObject(parse_json(text))
        if given.whole("schema") != _SCHEMA:
            raise given.malformed("schema", f"is not {_SCHEMA}")
        return tuple(_key(each) for each in given.objects_at("keys"))
    except Malformed as error:
        raise UsageError(
            f"{path} cannot be used: {error}", hint=f"mend it, or take it away: mv {path} {path}.old"
        ) from error


def add_key(settings: Settings, name: str, models: Iterable[str]) -> str:
    """Make a key and return it: it is in no file. Raises UsageError if the name is taken."""
    path = keys_path(settings)
    kept = read_key_list(path)
    check_name(name, typed_after="launcher keys add")
    if any(key.name == name for key in kept):
        raise UsageError(f"there is a key {name} already", hint=f"launcher keys rm {name}")
    if len(kept) >= _MOST_KEYS:
        raise UsageError(f"there are {len(kept)} keys, the most there can be", hint="launcher keys rm NAME")
    key = f"sk-{secrets.token_urlsafe(32)}"
    made = Key(name=name, sha256=_digest(key), made_at=time.time(), models=tuple(models))
    _write(path, (*kept, made))
    return key


def remove_key(settings: Settings, name: str) -> None:
    """Remove the key of that name. Raises NotFound."""
    path = keys_path(settings)
    kept = read_key_list(path)
    left = tuple(key for key in kept if key.name != name)
    if len(left) == len(kept):
        raise NotFound(f"there is no key {name}", hint="launcher keys ls")
    _write(path, left)


class KeyRing:
    """The keys as the gateway checks them; the file is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def find(self, given: str | None) -> Key | None:
        """Return the key that was given, in the same time whichever it is."""
        if given is None:
            return None
        digest, found = _digest(given), None
        for key in self.all():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def all(self) -> tuple[Key, ...]:
        try:
            about = self._path.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._keys = read_key_list(self._path) if stamp is not None else ()
            self._stamp = stamp
        return self._keys


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).hexdigest()


def _key(given: JsonObject) -> Key:
    return Key(
        name=check_name(given.text("name")),
        sha256=given.text("sha256"),
        made_at=given.number("made_at"),
        models=given.texts("models"),
    )


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    make_private(path.parent)
    document = {"schema": _SCHEMA, "keys": [asdict(key) for key in keys]}
    write_atomically(path, json.dumps(document, indent=1).encode())
