"""Write a program's settings, keeping a backup; find out what the gateway serves."""

from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2

from launcher.errors import NotFound, TryAgain, UsageError
from launcher.gateway.ask_status import read_answer
from launcher.gateway.connect.clients import Client, Endpoint, Served
from launcher.gateway.connect.edit import CannotEdit, edited
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import parse_json
from launcher.system.small_files import read_small_text

_MOST_BYTES = 4 << 20
_ANSWER_S = 10.0
_FOLDER_VARIABLES = {"codex": "CODEX_HOME", "claude-code": "CLAUDE_CONFIG_DIR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    file: Path
    backup: Path | None  # None: there was no such file
    changed: bool


def settings_file(client: Client, typed: Path | None) -> Path:
    """Return where the program reads its settings. Raises UsageError if nobody knows."""
    if typed is not None:
        return typed
    if client.file is None:
        raise UsageError(
            f"{client.title} has no fixed place for its settings",
            hint=f"launcher connect {client.name} --file FILE -y",
        )
    home = os.environ.get(_FOLDER_VARIABLES.get(client.name, ""))
    if home:
        return Path(home) / Path(client.file).name
    inside = Path(client.file)
    if client.name == "vscode" and sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / inside.relative_to(".config")
    config = os.environ.get("XDG_CONFIG_HOME")
    if config and inside.is_relative_to(".config"):
        return Path(config) / inside.relative_to(".config")
    return Path.home() / inside


def write_settings(client: Client, at: Endpoint, file: Path) -> Written:
    """Put the settings into the file; all else in it stays. Raises UsageError if that cannot be."""
    file = file.resolve()  # a link to a file elsewhere stays one
    try:
        before = read_small_text(file, most_bytes=_MOST_BYTES) if file.exists() else None
        text = edited(client, at, before or "")
    except CannotEdit as error:
        raise UsageError(
            f"{file} cannot be edited: {error}", hint=f"launcher connect {client.name} prints what to put in"
        ) from error
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint=f"ls -l {file}") from error
    if text == before:
        return Written(file=file, backup=None, changed=False)
    try:
        backup = None if before is None else _keep(file, before)
        # a key may stand in it
        mode = 0o600 if before is None else stat.S_IMODE(file.stat().st_mode)
        write_atomically(file, text.encode())
        file.chmod(mode)
    except OSError as error:
        raise TryAgain(f"{file} cannot be written: {error.strerror}", hint=f"ls -ld {file.parent}") from error
    return Written(file=file, backup=backup, changed=True)


def _keep(file: Path, text: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        backup = file.with_name(f"{file.name}.{stamp}{f'-{number}' if number else ''}.bak")
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        return backup
    raise FileExistsError(17, "a backup of this second is there already", str(file))


def find_endpoint(url: str, key: str | None, model: str | None) -> Endpoint:
    """Ask the gateway what it serves. Raises TryAgain if it does not answer, NotFound for the model."""
    try:
        status, body = read_answer(f"{url}/v1/models", key, limit_s=_ANSWER_S)
        listed = _listed(body) if status == httpx2.codes.OK else []
    except (httpx2.HTTPError, ValueError) as error:
        if model is not None:
            return Endpoint(url=url, key=key, models=(Served(name=model),), answers=False)
        raise TryAgain(f"no gateway answers at {url}", hint="launcher serve") from error
    if status != httpx2.codes.OK:
        raise UsageError(
            f"the gateway at {url} answers {status}",
            hint="launcher keys add NAME, then --key KEY",
        )
    models = [_served(each) for each in listed]
    loaded = {each["id"] for each in listed if _is_loaded(each)}
    models.sort(key=lambda each: (each.name != model, each.name not in loaded))
    if not models:
        raise NotFound(f"the gateway at {url} serves no model", hint="launcher pull REF")
    if model is not None and models[0].name != model:
        models.insert(0, Served(name=model))  # an alias, or a mode
    return Endpoint(url=url, key=key, models=tuple(models))


def _listed(body: bytes) -> list[dict[str, object]]:
    """Return the models of the list. Raises ValueError."""
    document = parse_json(body)  # whoever listens there has written it
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise ValueError("its answer is no list of models")  # noqa: TRY004  as for one that is no JSON
    return [each for each in data if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _is_loaded(each: dict[str, object]) -> bool:
    status = each.get("status")
    return isinstance(status, dict) and status.get("value") == "loaded"


def _served(each: dict[str, object]) -> Served:
    n_ctx = each.get("context_length")
    return Served(name=str(each.get("id")), n_ctx=n_ctx if isinstance(n_ctx, int) else None)
