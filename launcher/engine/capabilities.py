"""Ask a llama-server once what it understands."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from launcher.engine.ask import ask_engine, ask_for_help
from launcher.engine.dialect import complete, dialect_of
from launcher.engine.find import Engine, EngineSource
from launcher.engine.flags.help_text import Capabilities, Option, Version, parse_help, parse_version
from launcher.errors import UsageError
from launcher.plan.modes import Dialect
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import parse_json
from launcher.system.packages import sha256_of
from launcher.system.small_files import read_small

# Of the cached JSON; raised whenever parse_help or the values change, so that old answers are not used.
_CACHE_FORMAT = 2

# With shared libraries (the default) llama-server itself is a stub of 18 kB: its flags are in
# libllama-server-impl and libllama-common, its allocator in libllama and libggml*.
_LIBRARY = re.compile(r"lib(?:llama|ggml|mtmd).*\.(?:so[.0-9]*|dylib)")


def read_capabilities(engine: Engine, cache_dir: Path) -> Capabilities:
    """Return version and flags of this engine, asking it only the first time (two runs, 30 ms).

    Raises UsageError if the program is not a llama-server, EngineFailed if it does not run.
    """
    # The cache is a help, never a condition: unreadable or unwritable, the engine is simply asked again.
    folder = cache_dir / "capabilities"
    digest = engine_digest(engine, cache_dir)
    known = _read(folder / f"{digest}.json", digest)
    if known is not None:
        return known
    capabilities = _ask(engine, digest)
    _write(folder / f"{digest}.json", {"format": _CACHE_FORMAT, **dataclasses.asdict(capabilities)})
    return capabilities


def was_asked(program: Path, cache_dir: Path) -> bool:
    """Tell if this user has used the program as an engine before, whatever it is called."""
    try:
        engine = Engine(path=program, folder=program.resolve().parent, source=EngineSource.OPTION)
        digest = engine_digest(engine, cache_dir)
    except (OSError, RuntimeError):
        return False
    return _read(cache_dir / "capabilities" / f"{digest}.json", digest) is not None


def engine_digest(engine: Engine, cache_dir: Path) -> str:
    """Return a sha256 over the engine's program and the llama.cpp libraries in its folder.

    Raises OSError.
    """
    folder = cache_dir / "capabilities"
    program = _digest(engine.path, folder)
    libraries = {path.name: _digest(path, folder) for path in _libraries(engine.folder)}
    if not libraries:
        return program
    text = json.dumps([program, libraries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _libraries(folder: Path) -> list[Path]:
    # Resolved: a library under several names counts once.
    libraries = {entry.resolve() for entry in folder.iterdir() if _LIBRARY.fullmatch(entry.name)}
    return sorted(path for path in libraries if path.is_file())


def _ask(engine: Engine, digest: str) -> Capabilities:
    answer = ask_engine(engine.path, "--version")
    version = parse_version(answer)
    options = complete(parse_help(ask_for_help(engine.path)))
    if version is None or not any("--model" in option.spellings for option in options):
        raise UsageError(
            f"{engine.path} is not a llama-server: its --version says {answer.strip()[:80]!r}",
            hint="launcher engine install",
        )
    return Capabilities(sha256=digest, version=version, options=options, dialect=dialect_of(options))


def _digest(path: Path, folder: Path) -> str:
    """Return a file's sha256, computed once while path, size, modification time and inode stay."""
    state = path.stat()  # of a wrapper script: its own
    facts = {
        "path": str(path),
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "inode": state.st_ino,
        "device": state.st_dev,
    }
    note = folder / f"digest-{state.st_dev}-{state.st_ino}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered: dict[str, Any] = parse_json(read_small(note))
        digest = str(remembered["sha256"])
        if {name: remembered[name] for name in facts} == facts and len(digest) == 64:
            return digest
    digest = sha256_of(path)
    _write(note, {**facts, "sha256": digest})
    return digest


def _read(path: Path, digest: str) -> Capabilities | None:
    try:
        raw: dict[str, Any] = parse_json(read_small(path))
        if raw["format"] != _CACHE_FORMAT or raw["sha256"] != digest:
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
            dialect=Dialect(raw["dialect"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, document: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(document).encode())
