"""Asks a llama-server what it understands, once per engine; keyed by a digest of the program and the libraries
beside it, kept in the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from launcher.engine.find import Engine, ask_engine
from launcher.engine.flags.help_text import Capabilities, Option, Version, parse_help, parse_version
from launcher.errors import UsageError
from launcher.system.atomic_files import write_atomically
from launcher.system.packages import sha256_of

FORMAT = 1
"""Of the cached JSON; raised whenever parse_help or the values change, so that old answers are not used."""

_LIBRARY = re.compile(r"lib(?:llama|ggml|mtmd).*\.(?:so[.0-9]*|dylib)")
"""What llama-server is made of: with shared libraries (the default) the program itself is a stub of 18 kB, its flags are
in libllama-server-impl and libllama-common, its allocator in libllama and libggml*."""


def read_capabilities(engine: Engine, cache_dir: Path) -> Capabilities:
    """Version and flags of this engine; two runs of it the first time (30 ms), one small file after that.

    The cache is a help, never a
    condition: unreadable, damaged or unwritable, the engine is simply asked again. Raises UsageError for a
    program that is not a llama-server, EngineFailed for one that does not run.
    """
    folder = cache_dir / "capabilities"
    digest = engine_digest(engine, cache_dir)
    known = _read(folder / f"{digest}.json", digest)
    if known is not None:
        return known
    asked = _ask(engine, digest)
    _write(folder / f"{digest}.json", {"format": FORMAT, **dataclasses.asdict(asked)})
    return asked


def engine_digest(engine: Engine, cache_dir: Path) -> str:
    """What identifies an engine: the sha256 of its program, or of that and those of the libraries in its folder.

    Each file's is remembered by path, size, modification time and inode; while none changes, nothing is read. A
    library under several names counts once. Raises OSError.
    """
    folder = cache_dir / "capabilities"
    program = _digest(engine.path, folder)
    libraries = {path.name: _digest(path, folder) for path in _libraries(engine.folder)}
    if not libraries:
        return program
    text = json.dumps([program, libraries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _libraries(folder: Path) -> list[Path]:
    found = {entry.resolve() for entry in folder.iterdir() if _LIBRARY.fullmatch(entry.name)}
    return sorted(path for path in found if path.is_file())


def _ask(engine: Engine, digest: str) -> Capabilities:
    said = ask_engine(engine.path, "--version")
    version = parse_version(said)
    options = parse_help(ask_engine(engine.path, "--help"))
    if version is None or not any("--model" in option.spellings for option in options):
        raise UsageError(
            f"{engine.path} is not a llama-server: its --version says {said.strip()[:80]!r}",
            hint="launcher engine build, or name another one: --engine PATH",
        )
    return Capabilities(sha256=digest, version=version, options=options)


def _digest(path: Path, folder: Path) -> str:
    """A file's sha256, computed once per path, size, mtime and inode. A wrapper script counts as itself."""
    state = path.stat()
    facts = {
        "path": str(path),
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "inode": state.st_ino,
        "device": state.st_dev,
    }
    note = folder / f"digest-{state.st_dev}-{state.st_ino}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered: dict[str, Any] = json.loads(note.read_text())
        digest = str(remembered["sha256"])
        if {name: remembered[name] for name in facts} == facts and len(digest) == 64:
            return digest
    digest = sha256_of(path)
    _write(note, {**facts, "sha256": digest})
    return digest


def _read(path: Path, digest: str) -> Capabilities | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        if raw["format"] != FORMAT or raw["sha256"] != digest:
            return None
        return Capabilities(
            sha256=digest,
            version=Version(**raw["version"]),
            options=tuple(
                Option(
                    **{**option, "spellings": tuple(option["spellings"]), "values": tuple(option["values"])}
                )
                for option in raw["options"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, document: dict[str, object]) -> None:
    """Whole or not at all, also with two writers: a file of its own, then a rename."""
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(document).encode())
