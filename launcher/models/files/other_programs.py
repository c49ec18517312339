"""Find model files of other programs: Ollama, LM Studio, the Hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.gguf.model import Shard

_OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")


def other_stores(hub_cache: Path) -> tuple[Path, ...]:
    """Return the folders of other programs that exist here."""
    return tuple(
        folder for folder in (hub_cache, *ollama_folders(), *lm_studio_folders()) if _is_folder(folder)
    )


def ollama_folders() -> tuple[Path, ...]:
    """Return where Ollama keeps models, for this user and as a service."""
    named = os.environ.get("OLLAMA_MODELS")
    return _once(Path(named) if named else Path.home() / ".ollama" / "models", _OLLAMA_SERVICE)


def lm_studio_folders() -> tuple[Path, ...]:
    """Return where LM Studio keeps models, now and in its first versions."""
    home = Path.home()
    return _once(home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models")


def find_candidates(shards: Sequence[Shard], folders: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Return, by shard name, files of the shard's size. The caller verifies them."""
    # without a sha256 nothing could be verified
    wanted = [shard for shard in shards if shard.sha256 is not None]
    candidates: dict[str, list[Path]] = {shard.name: [] for shard in wanted}
    names_by_size: dict[int | None, list[str]] = {}
    for shard in wanted:
        names_by_size.setdefault(shard.size_bytes, []).append(shard.name)
    for folder in folders:
        for shard in wanted:
            candidates[shard.name] += [
                path for path in _named_by_hash(folder, shard) if _size(path) == shard.size_bytes
            ]
        # a store of blobs names files by their hash; elsewhere every .gguf may be the one
        if _is_store_of_blobs(folder) or not wanted:
            continue
        for path in _gguf_files(folder):
            for name in names_by_size.get(_size(path), ()):
                candidates[name].append(path)
    return {name: tuple(dict.fromkeys(paths)) for name, paths in candidates.items()}


def _is_store_of_blobs(folder: Path) -> bool:
    # a folder called `blobs` alone may be anybody's
    is_ollamas = _is_folder(folder / "blobs") and _is_folder(folder / "manifests")
    return is_ollamas or any(folder.glob("models--*"))


def _once(*folders: Path) -> tuple[Path, ...]:
    # by resolved path, keeping the first name of each
    return tuple({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]


def _named_by_hash(folder: Path, shard: Shard) -> Iterator[Path]:
    yield folder / "blobs" / f"sha256-{shard.sha256}"
    yield from folder.glob(f"models--*/blobs/{shard.sha256}")


def _gguf_files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(".gguf"):
                yield Path(where) / name


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # of another user
        return False
